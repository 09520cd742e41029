# SPDX-License-Identifier: Apache-2.0
"""Words and COCO classes: the synonym list, objects of a text, objects of a picture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...files import FileError, read_json
from .base import Item, MetricError
from .taggers import Tagger, Words


WHERE = "https://github.com/RLHF-V/RLHF-V (eval/data)"
ANNOTATIONS = (
    "instances_train2014.json",
    "instances_val2014.json",
    "captions_train2014.json",
    "captions_val2014.json",
)
NOUNS = ("NN", "NNS", "NNP", "NNPS")
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
# Pairs of words that are not in the synonym list, and what they stand for; the first two stand for no class.
PAIRS = {"home plate": "home plate", "train track": "train track", "bow tie": "tie", "toilet seat": "toilet"}
PAIRS |= {"wine glas": "wine glass"}  # the lemma of "glass" as some lemmatisers have it
PAIRS |= {f"{age} {animal}": animal for animal in ANIMALS for age in ("baby", "adult")}
PAIRS |= {f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")}


@dataclass(frozen=True)
class Synonyms:
    """A synonym list.

    Attributes:
        file: where it comes from.
        classes: word -> class.
    """

    file: Path
    classes: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Synonyms:
        """Reads a file with a class a line: its name and its synonyms, parted by commas; later lines win.

        Raises:
            MetricError: it cannot be read, or has no classes.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise MetricError(f"The synonym list cannot be read: {error}. It is published in {WHERE}.") from error
        rows = [[word.strip() for word in line.split(", ")] for line in lines if line.strip()]
        if not rows:
            raise MetricError(f"{path} has no classes. The synonym list is published in {WHERE}.")
        return cls(path, {word: row[0] for row in rows for word in row})

    @cached_property
    def pairs(self) -> dict[str, str]:
        """Pairs of words that are one object -> its word."""
        return {word: word for word in self.classes if " " in word} | PAIRS

    def class_of(self, name: str, item: Item) -> str:
        """The class of a name in an item's truth.

        Raises:
            MetricError: the list does not have it.
        """
        if name not in self.classes:
            raise MetricError(f"Item {item.id!r}: the object {name!r} is not in {self.file}.")
        return self.classes[name]

    def named(self, words: Sequence[str]) -> list[str]:
        """The classes of words, one a word that has one; a seat of a toilet is no chair."""
        seat = "toilet" in words
        return [self.classes[word] for word in words if word in self.classes and not (seat and word == "seat")]


def objects_of_list(objects: Iterable[str], synonyms: Synonyms, tagger: Tagger) -> list[str]:
    """The classes of listed objects: by pairs of words, else by runs of nouns; equal objects count once."""
    found: list[str] = []
    for name in objects:
        tokens = tagger(f"a {name}")
        pairs = _pairs([token.lemma for token in tokens], synonyms, keep=False)
        found += pairs or _runs(tokens)
    return synonyms.named(list(dict.fromkeys(found)))


def coco_objects(folder: Path, images: Collection[int], synonyms: Synonyms, words: Words) -> dict[int, set[str]]:
    """The classes in COCO pictures: those that are segmented, and those that their captions name.

    Args:
        folder: with COCO 2014's instances and captions of both splits.
        images: COCO's picture ids.
        synonyms: the synonym list.
        words: lemmas of a caption.

    Raises:
        MetricError: a file is missing or no annotation file, or a picture has no annotations.
    """
    found: dict[int, set[str]] = {image: set() for image in images}
    seen: set[int] = set()
    for name in ANNOTATIONS:
        data = _annotations(folder / name)
        categories = {category["id"]: category["name"] for category in data.get("categories", ())}
        for note in data["annotations"]:
            image = note["image_id"]
            if image not in found:
                continue
            seen.add(image)
            if "caption" in note:
                found[image] |= set(synonyms.named(_pairs(words(note["caption"]), synonyms, keep=True)))
            else:
                found[image].add(synonyms.classes[categories[note["category_id"]]])
    if lacking := sorted(set(found) - seen):
        raise MetricError(f"{folder} has no annotations of picture {lacking[0]}. Give those of COCO 2014.")
    return found


def _annotations(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except FileError as error:
        expected = ", ".join(ANNOTATIONS)
        raise MetricError(f"{error} COCO's annotations (https://cocodataset.org, 2014) are {expected}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise MetricError(f"{path} has no list 'annotations': it is no annotation file of COCO 2014.")
    return data


def _pairs(words: Sequence[str], synonyms: Synonyms, keep: bool) -> list[str]:
    """Puts pairs of words together from left to right; other words are kept or left out."""
    found, place = [], 0
    while place < len(words):
        pair = synonyms.pairs.get(" ".join(words[place : place + 2]))
        if pair is not None:
            found.append(pair)
        elif keep:
            found.append(words[place])
        place += 1 if pair is None else 2
    return found


def _runs(tokens: Sequence[Any]) -> list[str]:
    """Nouns that follow each other, as one word."""
    runs: list[list[str]] = [[]]
    for token in tokens:
        if token.tag in NOUNS:
            runs[-1].append(token.lemma)
        elif runs[-1]:
            runs.append([])
    return [" ".join(run) for run in runs if run]
