# SPDX-License-Identifier: Apache-2.0
"""Reading the prompt of a row: the system text and the turns up to the question."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .faults import FaultLog
from .schema import DEFAULT_TAGS, DatasetSchema, kind, suggest
from .terminal import quote
from .values import missing, read_optional_text, read_text


ROLE_TAGS = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "observation",
    "function_tag": "function",
    "system_tag": "system",
}
ASKING = ("user", "observation")
ANSWERING = ("assistant", "function")

_ORDER_FIX = "Questions and answers must take turns, a question first and last."


class Turn(NamedTuple):
    """One turn of the prompt; `role` is user, assistant, observation or function."""

    role: str
    content: str


def read_prompt(raw: Mapping[str, Any], schema: DatasetSchema, log: FaultLog) -> tuple[str, tuple[Turn, ...]]:
    """Reads the system text and the prompt turns of a row.

    Returns:
        The system text ("" if there is none) and the turns: an odd number, the last one asks. No turns if the log got
        an error on the way.
    """
    known_errors = len(log.faults)
    if schema.formatting == "alpaca":
        system, turns = None, _read_alpaca(raw, schema, log)
    else:
        system, turns = _read_messages(raw, schema, log)
    if system is None:
        system = read_optional_text(raw, "system", schema, log) or ""
    if any(fault.level == "error" for fault in log.faults[known_errors:]):
        return system, ()
    return system, tuple(turns)


def _read_alpaca(raw: Mapping[str, Any], schema: DatasetSchema, log: FaultLog) -> list[Turn]:
    turns: list[Turn] = []
    history = raw.get(schema.key("history")) if "history" in schema.columns else None
    if history is not None:
        turns += _read_history(history, schema.key("history"), log)
    parts = [read_optional_text(raw, column, schema, log) for column in ("prompt", "query")]
    if all(part is None for part in parts) and not log.failed:
        missing(raw, schema.key("prompt"), log, "Add the question as a string.")
    turns.append(Turn("user", "\n".join(part for part in parts if part)))
    if not turns[-1].content.strip() and not log.failed:
        log.error(schema.key("prompt"), "no-user-turn", "The question is empty.", "Add the question.")
    return turns


def _read_history(history: Any, key: str, log: FaultLog) -> list[Turn]:
    fix = "Write a list of [question, answer] pairs."
    if not isinstance(history, (list, tuple)):
        log.error(key, "wrong-type", f"The history is {kind(history)}.", fix)
        return []
    turns: list[Turn] = []
    for i, pair in enumerate(history):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            found = f"a list of {len(pair)}" if isinstance(pair, (list, tuple)) else kind(pair)
            log.error(f"{key}[{i}]", "wrong-type", f"This is {found}, not a question and its answer.", fix)
            continue
        texts = [read_text(text, f"{key}[{i}][{j}]", log) for j, text in enumerate(pair)]
        turns += [
            Turn(role, text) for role, text in zip(("user", "assistant"), texts, strict=True) if text is not None
        ]
    return turns


def _read_messages(raw: Mapping[str, Any], schema: DatasetSchema, log: FaultLog) -> tuple[str | None, list[Turn]]:
    key = schema.key("messages")
    messages = raw.get(key)
    if messages is None:
        missing(raw, key, log, "Add the conversation, or say under `columns` what its key is called (`messages`).")
        return None, []
    if not isinstance(messages, (list, tuple)):
        log.error(key, "wrong-type", f"The conversation is {kind(messages)}.", "Write a list of turns.")
        return None, []
    read = [read_turn(message, f"{key}[{i}]", schema, log) for i, message in enumerate(messages)]
    turns = [turn for turn in read if turn is not None]
    if len(turns) < len(messages):
        return None, []
    system, first = None, 0
    if turns and turns[0].role == "system":
        system, first = turns[0].content, 1
    _check_order(turns, first, schema, log)
    return system, turns[first:]


def read_turn(value: Any, field: str, schema: DatasetSchema, log: FaultLog) -> Turn | None:
    """Reads one ShareGPT turn; None if the log got an error on the way."""
    role_tag = schema.tags.get("role_tag", DEFAULT_TAGS["role_tag"])
    content_tag = schema.tags.get("content_tag", DEFAULT_TAGS["content_tag"])
    if not isinstance(value, Mapping):
        fix = f'Write {{"{role_tag}": ..., "{content_tag}": ...}}.'
        log.error(field, "wrong-type", f"This turn is {kind(value)}.", fix)
        return None
    for tag, name in (("role_tag", role_tag), ("content_tag", content_tag)):
        if value.get(name) is None:
            keys = ", ".join(f"`{quote(str(key), 24)}`" for key in list(value)[:6])
            message = f"The turn has no `{name}`." + (f" It has {keys}." if keys else "")
            fix = f"Add it, or say under `tags` what it is called (`{tag}`)."
            log.error(f"{field}.{name}", "missing-field", message, fix)
    if value.get(role_tag) is None or value.get(content_tag) is None:
        return None
    word = read_text(value[role_tag], f"{field}.{role_tag}", log)
    content = read_text(value[content_tag], f"{field}.{content_tag}", log)
    role = None if word is None else _read_role(word, f"{field}.{role_tag}", schema, log)
    return None if role is None or content is None else Turn(role, content)


def _read_role(word: str, field: str, schema: DatasetSchema, log: FaultLog) -> str | None:
    words = {schema.tags[tag]: role for tag, role in ROLE_TAGS.items() if tag in schema.tags}
    if word in words:
        return words[word]
    meant = [tag for tag in ROLE_TAGS if word in (DEFAULT_TAGS[tag], ROLE_TAGS[tag])]
    if not meant:
        fix = suggest(word, words, "Use one of the roles of this data set")
    elif meant[0] in schema.tags:
        right = schema.tags[meant[0]]
        fix = f'Write `{right}`; or, if all rows say `{word}`, set "{meant[0]}": "{word}" under `tags`.'
    else:
        fix = f'Add "{meant[0]}": "{word}" under `tags`: an entry with `tags` has only the tags it names.'
    log.error(field, "bad-role", f"`{quote(word)}` is not a role of this data set.", fix)
    return None


def _check_order(turns: Sequence[Turn], first: int, schema: DatasetSchema, log: FaultLog) -> None:
    key = schema.key("messages")
    words = {role: schema.tags[tag] for tag, role in ROLE_TAGS.items() if tag in schema.tags}
    if len(turns) == first:
        log.error(key, "no-user-turn", "The conversation holds no question.", "Add a user turn.")
        return
    for i in range(first, len(turns)):
        role = turns[i].role
        if role == "system":
            log.error(f"{key}[{i}]", "role-order", "A system turn stands after the start.", "Put it first.")
            return
        if role not in (ASKING, ANSWERING)[(i - first) % 2]:
            before = f"right after a turn of `{words[turns[i - 1].role]}`" if i > first else "at the start"
            log.error(f"{key}[{i}]", "role-order", f"A turn of `{words[role]}` stands {before}.", _ORDER_FIX)
            return
    if turns[-1].role in ANSWERING:
        message = f"The conversation ends with a turn of `{words[turns[-1].role]}`, so nothing is left to answer."
        fix = "End it with the question; the two answers belong in `chosen` and `rejected`."
        log.error(f"{key}[{len(turns) - 1}]", "ends-with-answer", message, fix)
    elif all(turn.role != "user" for turn in turns):
        log.error(key, "no-user-turn", "The conversation holds no user turn.", "Add a user turn.")
    for i, turn in enumerate(turns):
        if turn.role in ("user", "assistant") and not turn.content.strip():
            message = f"This turn of `{words[turn.role]}` is empty."
            log.warn(f"{key}[{i}]", "empty-turn", message, "Check that no text got lost.")
