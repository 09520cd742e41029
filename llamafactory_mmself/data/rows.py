# SPDX-License-Identifier: Apache-2.0
"""Preference rows in one form, whatever the file looked like."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .answers import PrefixReading, decide_prefix_reading, read_answers
from .faults import Fault, FaultLog
from .media import check_answer_placeholders, check_same_images, read_media, resolve
from .schema import DatasetSchema, kind
from .turns import Turn, read_prompt
from .values import read_choices, read_json_text, read_scalar_text, read_tools, read_weight


__all__ = ["FEATURES", "PreferenceRow", "PrefixReading", "Turn", "decide_prefix_reading", "normalise"]

FEATURES: dict[str, Any] = {
    "key": "string",
    "file": "string",
    "row": "int64",
    "system": "string",
    "tools": "string",
    "prompt": [{"role": "string", "content": "string"}],
    "chosen": "string",
    "rejected": ["string"],
    "images": ["string"],
    "rejected_images": ["string"],
    "videos": ["string"],
    "prefix": "string",
    "prefix_l": "string",
    "weight": "float64",
    "answer": "string",
    "choices": ["string"],
    "provenance": "string",
}
"""Types of what `PreferenceRow.to_record` returns: a string names an Arrow type, [type] is a list, a dict a struct."""

_KEY_DIGITS = 32


@dataclass(frozen=True)
class PreferenceRow:
    """One question with a chosen answer and one or more rejected ones.

    Attributes:
        key: The row's `id`; without one, a digest of system text, prompt and images as written. Rows that ask the same
            about the same image share it.
        file: The file the row comes from.
        row: Its number there, from 1; the line number for JSONL.
        system: System text, "" if there is none.
        tools: Tool descriptions as JSON text, "" if there are none.
        prompt: An odd number of turns; the last one asks.
        chosen: The better answer: the whole text, its prefix included.
        rejected: At least one worse answer, whole texts.
        images: Paths of the real images, one for each image placeholder in the prompt.
        rejected_images: As many paths, or none.
        videos: Paths of the videos, one for each video placeholder.
        prefix: The leading part of `chosen` that is given, not trained; None if the row has no prefixes.
        prefix_l: The same for `rejected[0]`.
        weight: Finite and not negative; None if the row has none.
        answer: The correct short answer, if the row states it.
        choices: The choices of a multiple-choice question.
        provenance: How the row was made, as JSON text; "" if unknown.
    """

    key: str
    file: str
    row: int
    system: str
    tools: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: tuple[str, ...]
    images: tuple[str, ...] = ()
    rejected_images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    prefix: str | None = None
    prefix_l: str | None = None
    weight: float | None = None
    answer: str | None = None
    choices: tuple[str, ...] = ()
    provenance: str = ""

    def to_record(self) -> dict[str, Any]:
        """Returns plain values of the fixed types that `FEATURES` describes."""
        record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        record["prompt"] = [turn._asdict() for turn in self.prompt]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "PreferenceRow":
        """Makes a row from what `to_record` returned; other keys are ignored."""
        values: dict[str, Any] = {field.name: record[field.name] for field in dataclasses.fields(cls)}
        values["prompt"] = tuple(Turn(turn["role"], turn["content"]) for turn in record["prompt"])
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values)


def normalise(
    raw: Any,
    schema: DatasetSchema,
    *,
    file: str,
    row: int,
    media_dir: Path,
    prefix_reading: PrefixReading | None,
) -> tuple[PreferenceRow | None, list[Fault]]:
    """Brings one row into the common form and checks everything that can be checked without opening media.

    Texts stay exactly as they are; in the suffix reading each answer gets its prefix put in front.

    Args:
        raw: The row as it stands in the file. Any content is allowed, nothing raises.
        schema: The data set.
        file: The file, for the faults.
        row: The number of the row in the file, from 1.
        media_dir: The folder that media paths start from; paths that do not exist there are kept as given.
        prefix_reading: What `decide_prefix_reading` returned for the data set. With None a row with prefixes decides
            for itself.

    Returns:
        The row and its warnings, or None and its faults with at least one error.
    """
    log = FaultLog(file, row)
    if not isinstance(raw, Mapping):
        log.error("", "not-an-object", f"The row is {kind(raw)}.", "Write an object: {...}.")
        return None, log.faults
    system, turns = read_prompt(raw, schema, log)
    answers = read_answers(raw, schema, prefix_reading, log)
    media = read_media(raw, schema, system, turns, log)
    if answers is not None:
        check_answer_placeholders(answers, schema, log)
    row_id = read_scalar_text(raw, "id", schema, log)
    values: dict[str, Any] = {
        "tools": read_tools(raw, schema, log),
        "weight": read_weight(raw, schema, log),
        "answer": read_scalar_text(raw, "answer", schema, log),
        "choices": read_choices(raw, schema, log),
        "provenance": read_json_text(raw, "provenance", schema, log),
    }
    if answers is None or log.failed:
        return None, log.faults
    images = tuple(resolve(path, media_dir) for path in media.images)
    rejected_images = tuple(resolve(path, media_dir) for path in media.rejected_images)
    own_column = bool(raw.get(schema.key("rejected_images")))
    check_same_images(images, rejected_images, schema.key("rejected_images" if own_column else "images"), log)
    return (
        PreferenceRow(
            key=row_id or _digest(system, turns, media.images),
            file=file,
            row=row,
            system=system,
            prompt=turns,
            chosen=answers.chosen,
            rejected=answers.rejected,
            images=images,
            rejected_images=rejected_images,
            videos=tuple(resolve(path, media_dir) for path in media.videos),
            prefix=answers.prefix,
            prefix_l=answers.prefix_l,
            **values,
        ),
        log.faults,
    )


def _digest(system: str, turns: Sequence[Turn], images: Sequence[str]) -> str:
    text = json.dumps([system, turns, images], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_KEY_DIGITS]
