# SPDX-License-Identifier: Apache-2.0
"""Supervised rows, checked as preference rows are: the last answer is the chosen one, and there is no rejected one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .read import RowReader
from .schema import DEFAULT_TAGS, DatasetSchema
from .values import ABSENT


class SupervisedReader(RowReader):
    """Reads the rows of a data set without `ranking`: turns that end with an answer, or `output` in Alpaca's form.

    Args:
        schema: the data set.
        dataset_dir: the folder that `schema.file_name` starts from.
        media_dir: the folder that media paths start from.

    Raises:
        DataError: the data set cannot be read at all.
    """

    def __init__(self, schema: DatasetSchema, dataset_dir: Path, media_dir: Path) -> None:
        answer = schema.key("response") if schema.formatting == "alpaca" else f"{schema.key('messages')}[-1]"
        columns = {**schema.columns, "chosen": answer, "rejected": ABSENT}
        super().__init__(replace(schema, ranking=True, columns=columns), dataset_dir, media_dir)

    def _located(self) -> Iterator[tuple[str, int, Any]]:
        for file, number, raw in super()._located():
            yield file, number, self._paired(raw) if isinstance(raw, Mapping) else raw

    def _paired(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        if self.schema.formatting == "alpaca":
            return {**raw, ABSENT: ABSENT}
        messages, answer = self.schema.key("messages"), self.schema.key("chosen")
        turns = raw.get(messages)
        role, content = (self.schema.tags.get(tag, DEFAULT_TAGS[tag]) for tag in ("role_tag", "content_tag"))
        speaker = self.schema.tags.get("assistant_tag", DEFAULT_TAGS["assistant_tag"])
        row = {**raw, ABSENT: {role: speaker, content: ABSENT}}
        if isinstance(turns, list) and turns:
            row |= {messages: turns[:-1], answer: turns[-1]}
        return row
