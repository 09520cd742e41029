# SPDX-License-Identifier: Apache-2.0
"""The normal form of short answers that the VQA challenges compare (Antol et al. 2015; Singh et al. 2019 for TextVQA).

Lower case; no commas, question marks, articles; punctuation gone, or a blank where it parted words; number words as
digits; contractions with their apostrophe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator


MARKS = ';/[]"{}()=+\\_-><@`,?!'
THOUSANDS = re.compile(r"(?<=\d),+(?=\d)")
FULL_STOP = re.compile(r"\.(?!\d)")
PUBLISHED_STOPS = 32  # the original hands a flag to `re.sub` where it takes a count
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}

# Stem and endings. A word without its apostrophe gets it; of two apostrophes, one may be missing.
_ENDINGS = """
    ai n't; are n't; ca n't; could 've n't n't've; did n't; does n't; do n't; had n't n't've; has n't; have n't;
    he 'd 'd've 's; how 'd 'll 's; is n't; it 'd 'd've 'll; might n't n't've 've; must n't 've; need n't; not 've;
    ought n't; sha n't; she 'd've; should 've n't n't've; somebody 'd've 'll 's; someone 'd 'd've 'll 's;
    something 'd 'd've 'll; that 's; there 'd 'd've 're 's; they 'd 'd've 'll 're 've; was n't; we 'd've 've; were n't;
    what 'll 're 's 've; when 's; where 'd 's 've; who 'd 'd've 'll 's 've; why 'll 're 's; wo n't; would 've n't
    n't've; y 'all 'all'll; you 'd 'd've 'll 're 've
"""
# Spellings that follow no rule.
_ODD = {"maam": "ma'am", "oclock": "o'clock", "twas": "'twas", "yall'd've": "y'all'd've", "y'alld've": "y'all'd've"}
_ODD |= {"y'all'dve": "y'all'd've", "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at"}
_PUBLISHED_SLIP = {"somebody'd": "somebodyd"}


def normal(text: str, published: bool = False) -> str:
    """The normal form.

    Args:
        text: a short answer.
        published: keep full stops beyond the 32nd, and lose the apostrophe of "somebody'd", as the original does.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    text = without_punctuation(text, most=PUBLISHED_STOPS if published else 0)
    words = [DIGITS.get(word, word) for word in text.lower().split()]
    slips = _PUBLISHED_SLIP if published else {}
    return " ".join(slips.get(word) or CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_punctuation(text: str, most: int = 0) -> str:
    """Takes a mark away where it stands beside a blank anywhere in the text, and puts a blank in its place elsewhere.

    Args:
        text: in lower case.
        most: full stops to take away at most, all of them with 0; those before a digit stay.
    """
    said = text
    for mark in MARKS:
        beside = f"{mark} " in text or f" {mark}" in text or THOUSANDS.search(text) is not None
        said = said.replace(mark, "" if beside else " ")
    return FULL_STOP.sub("", said, count=most)


def soft_score(answer: str, references: list[str]) -> float:
    """Agreement with ten people: the mean over the ten sets of nine of min(1, equal answers among the nine / 3).

    Args:
        answer: in normal form.
        references: the ten answers in normal form.
    """
    equal = references.count(answer)
    others = len(references) - equal
    return (equal * min(1.0, (equal - 1) / 3) + others * min(1.0, equal / 3)) / len(references)


def _contractions() -> Iterator[tuple[str, str]]:
    for entry in _ENDINGS.replace("\n", " ").split(";"):
        stem, *endings = entry.split()
        for whole in (stem + ending for ending in endings):
            for mark in re.finditer("'", whole):
                yield whole[: mark.start()] + whole[mark.end() :], whole


CONTRACTIONS = dict(_contractions()) | _ODD
