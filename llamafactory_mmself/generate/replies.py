# SPDX-License-Identifier: Apache-2.0
"""Reading a teacher's replies: scores of sentences, and corrected rationales.

Replies come as JSON, fenced or bare, as the published line form with its unescaped quotes, or broken. What is not
clear is an error with a reason; no value is guessed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal


Quirks = Literal["fixed", "published"]
Reason = Literal["missing", "cut", "format", "count", "placeholder", "invalid", "empty"]

PLACEHOLDER = "xxx"
FINAL = "final_rationale"
ORIGINAL = "original_rationale"

_ITEM = frozenset({"index", "score"})
_LINE_END = re.compile(r"\\n(?![a-z])")  # as JSON writes it; \nabla is none
_SPANS = re.compile(r"\{.*?\}", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")


class ReplyError(ValueError):
    """A reply that cannot be used.

    Attributes:
        reason: `missing`: there is none; `cut`: it ends at the limit of tokens, amid what was asked for; `format`: not
            of the form asked for; `count`: not as many scores as sentences; `placeholder`: left as it was; `invalid`:
            no number from 0 to 1; `empty`: nothing in it.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


def parse_scores(reply: str | None, count: int, *, cut: bool = False, quirks: Quirks = "fixed") -> list[float]:
    """The scores of a reply, in the order of the sentences.

    Args:
        reply: what the teacher wrote, None for no reply.
        count: number of sentences.
        cut: the reply ended at the limit of tokens: only JSON that is whole counts.
        quirks: `published` reads as the published code does, which knows the line form only, stumbles over braces in
            sentences, and takes nan for a score.

    Raises:
        ReplyError: with the reason.
    """
    if reply is None:
        raise ReplyError("missing", "There is no reply.")
    if quirks == "published":
        return _published_scores(reply, count)
    if not count:
        raise ReplyError("empty", "There are no sentences to score.")
    problem = _cut() if cut else ReplyError("format", "The reply holds no JSON object or array of scores.")
    for values in _candidates(reply, cut):
        try:
            return _checked(values, count)
        except ReplyError as error:
            problem = error if problem.reason in ("cut", "format") else problem
    raise problem


def parse_correction(reply: str | None, *, cut: bool = False, quirks: Quirks = "fixed") -> str | None:
    """The corrected rationale of a reply.

    Args:
        reply: what the teacher wrote, None for no reply.
        cut: the reply ended at the limit of tokens: only JSON that is whole counts.
        quirks: `published` deletes line breaks, cuts a reply without the key at its 16th character, and takes a
            rationale that is to be kept for no error.

    Returns:
        the text; None under `published` where the policy's own rationale is kept.

    Raises:
        ReplyError: with the reason; under `published` for a missing reply only.
    """
    if reply is None:
        raise ReplyError("missing", "There is no reply.")
    if quirks == "published":
        return _published_correction(reply)
    text = _json_field(reply, FINAL)
    if text is None and cut:
        raise _cut()
    if text is None:
        text = _line_field(reply)
    if text is None:
        raise ReplyError("format", f"The reply has no field `{FINAL}`.")
    text = text.strip()
    lowered = text.casefold()
    if not any(letter.isalnum() for letter in text):
        raise ReplyError("empty", f"The field `{FINAL}` is empty.")
    if lowered.strip("{}<>[]. ") in (ORIGINAL, "original rationale", FINAL, PLACEHOLDER):
        raise ReplyError("placeholder", f"The field `{FINAL}` holds no text of its own.")
    return text


# Scores.


def _cut() -> ReplyError:
    return ReplyError("cut", "The reply ends at the limit of tokens, before its end.")


def _candidates(reply: str, cut: bool) -> Iterator[list[Any]]:
    """Lists of values that the reply may mean, the likeliest first."""
    for value in _json_values(reply):
        yield from _lists(value)
    if cut:
        return
    begin, end = reply.find("{"), reply.rfind("}")
    if 0 <= begin < end:
        lines = [line for line in reply[begin : end + 1].splitlines() if ":" in line]
        yield [_bare(line.rpartition(":")[2]) for line in lines if _bare(line.rpartition(":")[2])]


def _json_values(reply: str) -> Iterator[Any]:
    """JSON objects (as lists of pairs) and arrays within a text, outer ones first."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    place = 0
    while (match := re.compile(r"[\[{]").search(reply, place)) is not None:
        try:
            value, place = decoder.raw_decode(reply, match.start())
            yield value
        except (ValueError, RecursionError):
            place = match.start() + 1


class _Pairs(list[tuple[str, Any]]):
    """A JSON object whose keys may come twice, as equal sentences do."""


def _lists(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, _Pairs):
        named = dict(value)
        if isinstance(named.get("scores"), list):
            yield from _lists(named["scores"])
        elif named.keys().isdisjoint(_ITEM):  # one of an array's items, if the array itself is broken
            yield [item for _, item in value]
    elif isinstance(value, list):
        yield _by_index(value) if value and all(isinstance(item, _Pairs) for item in value) else value


def _by_index(items: Sequence[Any]) -> list[Any]:
    """Scores of an array of objects with `index` and `score`, in the order of the indexes; from 0 or from 1 on."""
    rows = [dict(item) for item in items]
    places = [row.get("index") for row in rows]
    if any(isinstance(place, int) for place in places):
        first = 0 if 0 in places else 1
        if sorted(places, key=str) != sorted(range(first, first + len(rows)), key=str):
            raise ReplyError("count", f"The indexes {places} are not those of {len(rows)} sentences.")
        rows.sort(key=lambda row: row["index"])
    return [row.get("score") for row in rows]


def _checked(values: Sequence[Any], count: int) -> list[float]:
    if len(values) != count:
        raise ReplyError("count", f"The reply has {len(values)} scores for {count} sentences.")
    return [_score(value) for value in values]


def _score(value: Any) -> float:
    if isinstance(value, str) and value.casefold() == PLACEHOLDER:
        raise ReplyError("placeholder", "A score was left open.")
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ReplyError("invalid", f"{value!r} is no number.")
    if not 0 <= value <= 1:
        raise ReplyError("invalid", f"The score {value} is not between 0 and 1.")
    return float(value)


def _bare(text: str) -> str:
    return text.strip().strip(",").strip().strip("}").strip().strip("\"'").strip()


def _published_scores(reply: str, count: int) -> list[float]:
    spans = _SPANS.findall(reply)
    if not spans:
        raise ReplyError("format", "There is no pair of braces.")
    lines = [line for span in spans for line in span.splitlines() if ":" in line]
    values = [line.rpartition(":")[2].strip(",").strip(" ").strip("}") for line in lines]
    values = [value.strip(",").strip() for value in values]
    if len(values) != count:
        raise ReplyError("count", f"{len(values)} scores for {count} sentences.")
    if values and values[-1] == PLACEHOLDER:
        raise ReplyError("placeholder", "The last score was left open.")
    scores = []
    for value in values:
        try:
            score = float(value)
        except ValueError as error:
            raise ReplyError("invalid", f"{value!r} is no number.") from error
        if score < 0 or score > 1:
            raise ReplyError("invalid", f"{score} is not between 0 and 1.")
        scores.append(score)
    if not scores:
        raise ReplyError("empty", "There is no score.")
    return scores


# Corrections.


def _json_field(reply: str, name: str) -> str | None:
    for value in _json_values(reply):
        if isinstance(value, _Pairs) and isinstance(found := dict(value).get(name), str):
            return found
    return None


def _line_field(reply: str) -> str | None:
    """The field of the published form, `final_rationale:{...}`, whose braces may be missing.

    Also that of JSON with quotes that are not escaped; None if its text has no end.
    """
    match = re.search(rf"([\"']?){FINAL}[\"']?\s*:\s*", reply)
    if match is None:
        return None
    rest = reply[match.end() :]
    if "}" in rest:
        rest = rest[: rest.rfind("}")] if not rest.startswith("{") else rest[1 : _closing(rest)]
    rest = rest.strip().strip("`").strip().strip(",")
    if match[1] != '"' or not rest.startswith('"'):
        return rest.strip("\"'")
    if len(rest) < 2 or not rest.endswith('"'):
        return None
    return _LINE_END.sub("\n", rest[1:-1]).replace('\\"', '"')


def _closing(text: str) -> int:
    """Where the brace that a text begins with is closed, or the last brace if it never is."""
    depth = 0
    for place, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return place
    return text.rfind("}")


def _published_correction(reply: str) -> str | None:
    glued = reply[max(reply.find("{"), 0) :].replace("\n", "")
    place, key = glued.find(f"{FINAL}:"), f"{FINAL}:"
    begin = place + len(key)  # without the key this is 15
    end = glued.rfind("}")
    text = glued[begin : end if end >= 0 else len(glued) - 1].strip().strip("{}")
    if not text or "original rationale" in text or ORIGINAL in text:
        return None
    return text.replace("{", "").replace("}", "")
