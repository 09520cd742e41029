# SPDX-License-Identifier: Apache-2.0
"""Reading the chosen and rejected answers of a row and the prefixes they share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .faults import FaultLog
from .schema import DatasetSchema, kind
from .terminal import quote
from .turns import read_turn
from .values import missing, read_optional_text, read_text


PrefixReading = Literal["full", "suffix"]


@dataclass(frozen=True)
class Answers:
    """The answers of a row as full texts: `chosen` starts with `prefix`, `rejected[0]` with `prefix_l`."""

    chosen: str
    rejected: tuple[str, ...]
    prefix: str | None
    prefix_l: str | None


def read_answers(
    raw: Mapping[str, Any], schema: DatasetSchema, reading: PrefixReading | None, log: FaultLog
) -> Answers | None:
    """Reads the answers of a row.

    Args:
        raw: The row as it stands in the file.
        schema: The data set.
        reading: Whether answers hold their prefix (`full`) or only what follows it (`suffix`). With None the row
            itself decides.
        log: Gets the faults.

    Returns:
        The answers as full texts, or None if the log got an error on the way.
    """
    before = len(log.faults)
    chosen, rejected = _read_pair(raw, schema, log)
    prefix = read_optional_text(raw, "prefix", schema, log)
    prefix_l = read_optional_text(raw, "prefix_l", schema, log)
    if len(log.faults) > before or chosen is None:
        return None
    if prefix is None and prefix_l is None:
        answers = Answers(chosen, rejected, None, None)
    elif prefix is None or prefix_l is None:
        _log_incomplete(schema, "prefix" if prefix is None else "prefix_l", log)
        return None
    else:
        answers = Answers(chosen, rejected, prefix, prefix_l)
        reading = reading or _reading_of(answers)
        answers = (_check_suffix_reading if reading == "suffix" else _check_full_reading)(answers, schema, log)
    if len(log.faults) == before:
        _check_difference(answers, schema, raw, log)
    return None if any(fault.level == "error" for fault in log.faults[before:]) else answers


def decide_prefix_reading(raws: Iterable[Any], schema: DatasetSchema) -> PrefixReading | None:
    """Finds out whether the answers of a data set hold their prefix.

    The setting `prefix_in_response` decides. If it is `auto`, the first readable row with a prefix that is not empty
    does: `full` if both answers start with their prefix, else `suffix`.

    Args:
        raws: Rows as they stand in the file; no more of them are taken than needed.
        schema: The data set.

    Returns:
        The reading; None if no row has a prefix, when both readings agree.
    """
    if schema.prefix_in_response != "auto":
        return "full" if schema.prefix_in_response == "true" else "suffix"
    for raw in raws:
        if not isinstance(raw, Mapping):
            continue
        log = FaultLog()
        prefix = read_optional_text(raw, "prefix", schema, log)
        prefix_l = read_optional_text(raw, "prefix_l", schema, log)
        if not prefix and not prefix_l:
            continue
        chosen, rejected = _read_pair(raw, schema, log)
        if chosen is not None and rejected and prefix is not None and prefix_l is not None:
            return _reading_of(Answers(chosen, rejected, prefix, prefix_l))
    return None


def _reading_of(answers: Answers) -> PrefixReading:
    whole = answers.chosen.startswith(answers.prefix or "") and answers.rejected[0].startswith(answers.prefix_l or "")
    return "full" if whole else "suffix"


def _read_pair(raw: Mapping[str, Any], schema: DatasetSchema, log: FaultLog) -> tuple[str | None, tuple[str, ...]]:
    """Returns the texts as written; a chosen answer of None means that the log got an error."""
    chosen_key, rejected_key = schema.key("chosen"), schema.key("rejected")
    chosen: str | None = None
    rejected: list[str | None] = []
    if raw.get(chosen_key) is None:
        missing(raw, chosen_key, log, "Add the better answer.")
    else:
        chosen = _read_answer(raw[chosen_key], chosen_key, schema, log)
    value = raw.get(rejected_key)
    if value is None:
        missing(raw, rejected_key, log, "Add the worse answer.")
    elif isinstance(value, (list, tuple)):
        if not value:
            log.error(rejected_key, "missing-field", "The list of rejected answers is empty.", "Add the worse answer.")
        rejected = [_read_answer(answer, f"{rejected_key}[{i}]", schema, log) for i, answer in enumerate(value)]
    else:
        rejected = [_read_answer(value, rejected_key, schema, log)]
    texts = tuple(text for text in rejected if text is not None)
    return (None, ()) if not texts or len(texts) < len(rejected) else (chosen, texts)


def _read_answer(value: Any, field: str, schema: DatasetSchema, log: FaultLog) -> str | None:
    if isinstance(value, Mapping) and schema.formatting != "alpaca":
        turn = read_turn(value, field, schema, log)
        if turn is None:
            return None
        if turn.role != "assistant":
            message = f"The answer is a turn of `{turn.role}`."
            log.error(field, "bad-role", message, "Only answers of the assistant can be compared.")
            return None
        text: str | None = turn.content
    elif isinstance(value, str):
        text = read_text(value, field, log)
    else:
        fix = "Write a string." if schema.formatting == "alpaca" else "Write a string or a turn."
        log.error(field, "wrong-type", f"The answer is {kind(value)}.", fix)
        return None
    if text is not None and not text.strip():
        log.error(field, "empty-answer", "The answer is empty.", "Write the answer or delete the row.")
        return None
    return text


def _log_incomplete(schema: DatasetSchema, absent: str, log: FaultLog) -> None:
    present = "prefix_l" if absent == "prefix" else "prefix"
    key = schema.key(present)
    message = f"The row has `{key}` but no `{schema.key(absent)}`."
    fix = f'Give both. If both answers share one prefix, map both columns to it: "{absent}": "{key}" under `columns`.'
    log.error(schema.key(absent), "prefix-incomplete", message, fix)


def _check_full_reading(answers: Answers, schema: DatasetSchema, log: FaultLog) -> Answers:
    pairs = (("chosen", answers.chosen, "prefix"), ("rejected", answers.rejected[0], "prefix_l"))
    for column, text, prefix_column in pairs:
        prefix = (answers.prefix if prefix_column == "prefix" else answers.prefix_l) or ""
        field, prefix_key = schema.key(column), schema.key(prefix_column)
        if not text.startswith(prefix):
            position = next((i for i, (a, b) in enumerate(zip(text, prefix, strict=False)) if a != b), len(text))
            message = (
                f"The answer does not start with its `{prefix_key}`: from character {position + 1} on it reads "
                f'"{quote(text[position:], 24)}", not "{quote(prefix[position:], 24)}".'
            )
            log.error(field, "prefix-mismatch", message, _reading_fix(schema, "full"))
        elif prefix and not text[len(prefix) :].strip():
            message = f"Nothing follows the `{prefix_key}` in this answer."
            log.error(field, "empty-answer", message, "Write the rest of the answer or shorten the prefix.")
    return answers


def _check_suffix_reading(answers: Answers, schema: DatasetSchema, log: FaultLog) -> Answers:
    prefix, prefix_l = answers.prefix or "", answers.prefix_l or ""
    texts = [("chosen", "prefix", answers.chosen, prefix)]
    texts += [("rejected", "prefix_l", text, prefix_l) for text in answers.rejected]
    for column, prefix_column, text, start in texts:
        if start and text.startswith(start):
            message = f'The answer starts with its `{schema.key(prefix_column)}`: "{quote(start, 32)}".'
            log.error(schema.key(column), "prefix-repeated", message, _reading_fix(schema, "suffix"))
    rejected = tuple(prefix_l + text for text in answers.rejected)
    return Answers(prefix + answers.chosen, rejected, prefix, prefix_l)


def _reading_fix(schema: DatasetSchema, reading: PrefixReading) -> str:
    says = "The first row with a prefix shows" if schema.prefix_in_response == "auto" else "`prefix_in_response` says"
    if reading == "full":
        return (
            f"{says} that answers hold their prefix. Correct the row; or, if all answers hold only what follows it, "
            'set "prefix_in_response": false in dataset_info.json.'
        )
    return (
        f"{says} that answers hold only what follows the prefix. Cut the prefix off this answer; or, if all answers "
        'hold it, set "prefix_in_response": true in dataset_info.json.'
    )


def _check_difference(answers: Answers, schema: DatasetSchema, raw: Mapping[str, Any], log: FaultLog) -> None:
    key = schema.key("rejected")
    is_list = isinstance(raw.get(key), (list, tuple))
    seen: dict[str, int] = {}
    for i, text in enumerate(answers.rejected):
        field = f"{key}[{i}]" if is_list else key
        if text == answers.chosen:
            message = f"This answer is the same as `{schema.key('chosen')}`."
            log.error(field, "same-answer", message, "Give a different answer or delete the row.")
        elif text.strip() == answers.chosen.strip():
            message = f"This answer differs from `{schema.key('chosen')}` only in blanks around it."
            log.warn(field, "nearly-same-answer", message, "Check that this difference is meant.")
        elif text in seen:
            message = f"This answer is the same as `{key}[{seen[text]}]`."
            log.warn(field, "repeated-answer", message, "Delete one of the two.")
        seen.setdefault(text, i)
