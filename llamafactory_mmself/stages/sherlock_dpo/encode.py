# SPDX-License-Identifier: Apache-2.0
"""From a row with prefixes to the token ids of its three prompts and two answers.

An answer is tokenised once, and its ids are used in every sequence that contains it. The prefix has the ids of its own
text, so that equal prefixes have equal ids. If the whole answer's ids begin with them, the rest of those ids is the
suffix: that is so wherever the cut lies between two words or before a tag. Else (a cut inside a token, such as a
prefix that ends with a space) the suffix is tokenised by itself.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...data.encode import NOT_ENCODABLE, RowEncoder, Segments, prompt_fault
from ...data.faults import Fault, FaultLog
from ...data.media import PLACEHOLDERS
from ...data.rows import PreferenceRow
from ...data.turns import Turn
from ...prompts import Prompt


#: Column -> element type, for Arrow.
SEGMENT_TYPES = {
    "key": "string",
    "prompt": ["int32"],
    "correction_l": ["int32"],
    "correction_w": ["int32"],
    "spans": ["int32"],
    "chosen": ["int32"],
    "rejected": ["int32"],
    "prefix": "int32",
    "prefix_l": "int32",
    "suffix": "int32",
    "suffix_l": "int32",
    "images": ["string"],
    "videos": ["string"],
    "weight": "float64",
    "origin": "string",
}

_TAGS = re.compile("|".join(map(re.escape, PLACEHOLDERS)))


@dataclass(frozen=True)
class SherlockEncoder(RowEncoder):
    """An encoder that also knows the correction prompt."""

    correction: Prompt

    @classmethod
    def of(cls, encoder: RowEncoder, correction: Prompt) -> SherlockEncoder:
        """Adds a correction prompt to an encoder."""
        return cls(
            **{field.name: getattr(encoder, field.name) for field in dataclasses.fields(encoder)},
            correction=correction,
        )

    def correction_prompt(self, row: PreferenceRow, response: str) -> list[int]:
        """Ids of the prompt that shows a response to the row's question and asks for a better one.

        It takes the place of the last turn. That turn's pictures come first, then the prompt's text.
        """
        *history, last = row.prompt
        question = _TAGS.sub("", last.content).strip()
        content = "".join(_TAGS.findall(last.content)) + self.correction.fill(question=question, response=response)
        return self.prompt(dataclasses.replace(row, prompt=(*history, Turn(last.role, content))), row.images)


@dataclass(frozen=True)
class Answer:
    """An answer's ids, end of turn included, and how many of them are the prefix."""

    ids: list[int]
    prefix: int


def encode_sherlock(row: PreferenceRow, encoder: SherlockEncoder) -> tuple[list[Segments], list[Fault]]:
    """One record for each rejected answer of a row, or the faults that forbid it.

    A record has `key`; the ids of the prompts: `prompt` asks the question, `correction_l` and `correction_w` also show
    the rejected or the chosen answer; `spans`, the runs of media tokens in `prompt`; the ids `chosen` and `rejected`,
    cut so that they fit `cutoff_len` behind the question; how many of them are their prefix, `prefix` and `prefix_l`;
    how many of the tokens after it fit behind both correction prompts, `suffix` and `suffix_l`; the paths `images` and
    `videos`; `weight`. Nothing but suffixes is ever cut. A row without prefixes has empty ones.
    """
    log = FaultLog(row.file, row.row)
    if row.prompt[-1].role != "user":
        log.error(
            "conversations",
            "not-a-question",
            f"The last turn is one of `{row.prompt[-1].role}`; a response to it cannot be corrected.",
            "End the conversation with a question of the user.",
        )
        return [], log.faults
    try:
        prompt = encoder.prompt(row, row.images)
        shown_chosen = encoder.correction_prompt(row, row.chosen)
        shown_rejected = [encoder.correction_prompt(row, text) for text in row.rejected]
    except NOT_ENCODABLE as error:
        return [], [prompt_fault(row, "images", error)]

    chosen = _answer(row, encoder, row.chosen, row.prefix or "", "chosen", log)
    records = []
    for text, shown in zip(row.rejected, shown_rejected, strict=True):
        rejected = _answer(row, encoder, text, row.prefix_l or "", "rejected", log)
        if chosen is None or rejected is None:
            continue
        prompts = {"prompt": prompt, "correction_l": shown, "correction_w": shown_chosen}
        if (room := _room(encoder, prompts, chosen, rejected, log)) is None:
            continue
        record = _record(row, encoder, prompts, chosen, rejected, room)
        _check_difference(record, chosen, rejected, encoder, log)
        records.append(record)
    return ([] if log.failed else records), log.faults


def _answer(
    row: PreferenceRow, encoder: SherlockEncoder, text: str, prefix: str, field: str, log: FaultLog
) -> Answer | None:
    """Tokenises an answer and finds where its suffix begins; None if the log got an error."""
    prefix_field = "prefix" if field == "chosen" else "prefix_l"
    if not text.startswith(prefix):
        fix = "Every answer of a row has to start with its prefix."
        log.error(field, "prefix-mismatch", f"An answer does not start with the row's `{prefix_field}`.", fix)
        return None
    whole = encoder.response(row, text)
    if encoder.media_tokens & set(whole):
        log.error(field, "media-in-answer", "The answer contains a picture token.", "Remove that text.")
        return None
    head = _added_thought(encoder, text, whole)
    given = encoder.tokenizer.encode(prefix, add_special_tokens=False) if prefix else []
    cut = head + len(given)
    if whole[head:cut] == given:
        return Answer(whole, cut)

    suffix = text[len(prefix) :]
    rest = encoder.response(row, suffix)
    apart = whole[:head] + given + rest[_added_thought(encoder, suffix, rest) :]
    if _text(encoder, apart) != _text(encoder, whole):
        log.error(
            prefix_field,
            "prefix-cut",
            "The prefix ends inside a token, and this tokenizer changes the text when both parts are tokenised apart.",
            "Cut before a tag or between two words: the space belongs to the word that follows it.",
        )
        return None
    return Answer(apart, cut)


def _added_thought(encoder: SherlockEncoder, text: str, ids: list[int]) -> int:
    """How many ids at the start are the empty thought that reasoning templates put before answers without one."""
    if any(word.strip() in text for word in encoder.template.thought_words):
        return 0
    thought = encoder.template.get_thought_word_ids(encoder.tokenizer)
    return len(thought) if ids[: len(thought)] == thought else 0


def _text(encoder: SherlockEncoder, ids: list[int]) -> str:
    text: str = encoder.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _room(
    encoder: SherlockEncoder, prompts: Mapping[str, list[int]], chosen: Answer, rejected: Answer, log: FaultLog
) -> int | None:
    """Suffix tokens that fit behind the longest prompt and the longer prefix; None if there are none."""
    longest = max(prompts.values(), key=len)
    prefix = max(chosen.prefix, rejected.prefix)
    room = encoder.cutoff_len - len(longest) - prefix
    if room >= 1:
        return room
    media = sum(token in encoder.media_tokens for token in longest)
    if len(prompts["prompt"]) + prefix < encoder.cutoff_len:
        code, which = "correction-too-long", "The correction prompt, which shows a whole answer,"
    else:
        code, which = "media-cut" if media else "prompt-too-long", "The prompt"
    log.error(
        "conversations",
        code,
        f"{which} has {len(longest)} tokens, {media} of them for pictures, the prefix has {prefix}, and cutoff_len is "
        f"{encoder.cutoff_len}: no room for a token to score.",
        f"Set cutoff_len above {len(longest) + prefix}" + (" or lower image_max_pixels." if media else "."),
    )
    return None


def _record(
    row: PreferenceRow,
    encoder: SherlockEncoder,
    prompts: Mapping[str, list[int]],
    chosen: Answer,
    rejected: Answer,
    room: int,
) -> Segments:
    whole = encoder.cutoff_len - len(prompts["prompt"])
    return {
        "key": row.key,
        **prompts,
        "spans": encoder.spans(prompts["prompt"]),
        "chosen": chosen.ids[:whole],
        "rejected": rejected.ids[:whole],
        "prefix": chosen.prefix,
        "prefix_l": rejected.prefix,
        "suffix": min(room, len(chosen.ids[:whole]) - chosen.prefix),
        "suffix_l": min(room, len(rejected.ids[:whole]) - rejected.prefix),
        "images": list(row.images),
        "videos": list(row.videos),
        "weight": 1.0 if row.weight is None else row.weight,
        "origin": f"{row.file}, row {row.row}",
    }


def _check_difference(
    record: Segments, chosen: Answer, rejected: Answer, encoder: SherlockEncoder, log: FaultLog
) -> None:
    """Answers that cutting made equal are faults; suffixes that are equal anyway are worth a warning."""
    kept = record["chosen"][record["prefix"] :][: record["suffix"]]
    kept_l = record["rejected"][record["prefix_l"] :][: record["suffix_l"]]
    if record["chosen"] != record["rejected"] and kept != kept_l:
        return
    if chosen.ids[chosen.prefix :] == rejected.ids[rejected.prefix :]:
        message = "Both answers go on in the same way after their prefixes: the correction terms learn nothing here."
        log.warn("rejected", "same-suffix", message, "Cut the prefixes before the answers differ.")
        return
    log.error(
        "rejected",
        "equal-after-cut",
        f"chosen and rejected are the same in the {len(kept)} tokens after their prefixes that cutoff_len "
        f"{encoder.cutoff_len} leaves behind the correction prompt.",
        "Raise cutoff_len or drop the row.",
    )
