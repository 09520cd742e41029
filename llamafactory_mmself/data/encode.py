# SPDX-License-Identifier: Apache-2.0
"""From a checked row to token ids. Nothing is tokenised again afterwards, and nothing but answers is ever cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from PIL import Image

from .faults import Fault
from .rows import PreferenceRow, Turn


#: What Pillow and the processors raise on a picture that cannot be used.
UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)

#: What `RowEncoder.prompt` may raise for a row; `prompt_fault` says what is wrong.
NOT_ENCODABLE = (*UNREADABLE, ValueError)

#: A row after tokenising: what a stage's trees are built from. The same for all strategies.
Segments = dict[str, Any]


@dataclass(frozen=True)
class RowEncoder:
    """Tokenises rows with a LLaMA-Factory template.

    Attributes:
        template: the chat template with its multimodal plugin.
        tokenizer: its tokenizer.
        processor: the model's processor, or None for text models.
        cutoff_len: longest sequence in tokens.
        media_tokens: ids that stand for pictures and videos, with the marks around them.
    """

    template: Any
    tokenizer: Any
    processor: Any
    cutoff_len: int
    media_tokens: frozenset[int]

    def prompt(self, row: PreferenceRow, images: Sequence[str]) -> list[int]:
        """Ids of the prompt with some pictures behind its placeholders."""
        messages = [_message(turn) for turn in row.prompt]
        plugin = self.template.mm_plugin
        messages = plugin.process_messages(messages, list(images), list(row.videos), [], self.processor)
        ids, _ = self.template.encode_oneturn(self.tokenizer, [*messages, _answer(row.chosen)], row.system, row.tools)
        ids, _ = plugin.process_token_ids(
            ids, None, list(images), list(row.videos), [], self.tokenizer, self.processor
        )
        return list(ids)

    def response(self, row: PreferenceRow, text: str) -> list[int]:
        """Ids of an answer, end of turn included."""
        bare = [Turn(turn.role, "") for turn in row.prompt]
        messages = [*[_message(turn) for turn in bare], _answer(text)]
        _, ids = self.template.encode_oneturn(self.tokenizer, messages, row.system, row.tools)
        return [*ids, self.tokenizer.eos_token_id] if self.template.efficient_eos else list(ids)

    def spans(self, ids: Sequence[int]) -> list[int]:
        """Runs of media tokens: [start, end, start, end, ...]."""
        edges: list[int] = []
        position = 0
        for media, run in groupby(ids, key=lambda token: token in self.media_tokens):
            length = len(list(run))
            if media:
                edges += [position, position + length]
            position += length
        return edges


def encode_pairs(row: PreferenceRow, encoder: RowEncoder) -> tuple[list[Segments], list[Fault]]:
    """One record for each rejected answer of a row, or the faults that forbid it.

    A record has `key`, the ids `prompt`, `negative_prompt` (empty without rejected pictures), `chosen`, `rejected`,
    the media runs `spans` and `negative_spans`, the paths `images`, `rejected_images`, `videos`, and `weight`.
    Answers are cut so that every sequence fits `cutoff_len`; a prompt that leaves no room is a fault.
    """
    prompt, fault = _prompt(row, encoder, "images")
    negative, second = _prompt(row, encoder, "rejected_images") if row.rejected_images else ([], None)
    if fault or second:
        return [], [found for found in (fault, second) if found]

    room = encoder.cutoff_len - max(len(prompt), len(negative))
    if room < 1:
        return [], [_too_long(row, encoder, prompt, negative)]

    chosen = encoder.response(row, row.chosen)
    records: list[Segments] = []
    faults: list[Fault] = []
    for text in row.rejected:
        rejected = encoder.response(row, text)
        if chosen[:room] == rejected[:room]:
            faults.append(_same_after_cut(row, encoder, room))
        elif encoder.media_tokens & set(chosen + rejected):
            faults.append(
                _fault(row, "chosen", "media-in-answer", "an answer contains a picture token.", "Remove that text.")
            )
        else:
            records.append(_record(row, encoder, prompt, negative, chosen[:room], rejected[:room]))
    return ([], faults) if faults else (records, [])


def _prompt(row: PreferenceRow, encoder: RowEncoder, field: str) -> tuple[list[int], Fault | None]:
    """Ids of the prompt with the pictures of a column, or the fault of that column."""
    try:
        return encoder.prompt(row, getattr(row, field)), None
    except NOT_ENCODABLE as error:
        return [], prompt_fault(row, field, error)


def prompt_fault(row: PreferenceRow, field: str, error: Exception) -> Fault:
    """The fault of a row whose prompt could not be encoded.

    Args:
        row: The row.
        field: The column of its pictures.
        error: One of `NOT_ENCODABLE`.
    """
    if isinstance(error, UNREADABLE):
        return _fault(row, field, "media-unreadable", str(error), "Repair or remove the picture.")
    fix = "See that `template` belongs to the model and that the columns hold what they say."
    return _fault(row, field, "not-encodable", str(error), fix)


def _record(
    row: PreferenceRow,
    encoder: RowEncoder,
    prompt: list[int],
    negative: list[int],
    chosen: list[int],
    rejected: list[int],
) -> Segments:
    return {
        "key": row.key,
        "prompt": prompt,
        "spans": encoder.spans(prompt),
        "negative_prompt": negative,
        "negative_spans": encoder.spans(negative),
        "chosen": chosen,
        "rejected": rejected,
        "images": list(row.images),
        "rejected_images": list(row.rejected_images),
        "videos": list(row.videos),
        "weight": 1.0 if row.weight is None else row.weight,
        "origin": f"{row.file}, row {row.row}",
    }


#: Column -> element type, for Arrow.
SEGMENT_TYPES = {
    "key": "string",
    "prompt": ["int32"],
    "spans": ["int32"],
    "negative_prompt": ["int32"],
    "negative_spans": ["int32"],
    "chosen": ["int32"],
    "rejected": ["int32"],
    "images": ["string"],
    "rejected_images": ["string"],
    "videos": ["string"],
    "weight": "float64",
    "origin": "string",
}


def _message(turn: Turn) -> dict[str, str]:
    return {"role": turn.role, "content": turn.content}


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _fault(row: PreferenceRow, field: str, code: str, message: str, fix: str) -> Fault:
    return Fault(file=row.file, row=row.row, field=field, code=code, message=message, fix=fix)


def _too_long(row: PreferenceRow, encoder: RowEncoder, prompt: list[int], negative: list[int]) -> Fault:
    longest = max((prompt, negative), key=len)
    media = sum(token in encoder.media_tokens for token in longest)
    return _fault(
        row,
        "conversations",
        "media-cut" if media else "prompt-too-long",
        f"the prompt has {len(longest)} tokens, {media} of them for pictures, and cutoff_len is "
        f"{encoder.cutoff_len}: no room for an answer.",
        f"Set cutoff_len above {len(longest)}" + (" or lower image_max_pixels." if media else "."),
    )


def _same_after_cut(row: PreferenceRow, encoder: RowEncoder, room: int) -> Fault:
    return _fault(
        row,
        "rejected",
        "equal-after-cut",
        f"chosen and rejected are the same in the {room} tokens that cutoff_len {encoder.cutoff_len} leaves them.",
        "Raise cutoff_len or drop the row.",
    )
