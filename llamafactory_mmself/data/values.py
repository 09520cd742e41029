# SPDX-License-Identifier: Apache-2.0
"""Reading single values of a row: texts, the weight, the id, the answer key and the provenance."""

import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

from .faults import FaultLog
from .schema import DatasetSchema, kind
from .terminal import quote


#: Key and text of an answer that a row does not have; it has a noncharacter, so that no answer is the same.
ABSENT = "\uffffnone"


def read_text(value: Any, field: str, log: FaultLog) -> str | None:
    """Returns `value` unchanged if it is text that can be stored as UTF-8; else logs why not and returns None."""
    if not isinstance(value, str):
        log.error(field, "wrong-type", f"This is {kind(value)}.", "Write a string.")
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as err:
        code = f"\\u{ord(value[err.start]):04x}"
        message = f"The text holds {code}, half of a character, at position {err.start}."
        fix = "Write the whole character; such halves come from cutting or decoding text wrongly."
        log.error(field, "bad-unicode", message, fix)
        return None
    return value


def missing(raw: Mapping[str, Any], key: str, log: FaultLog, fix: str) -> None:
    """Logs that the row has no `key`, and which keys it has."""
    if key in raw:
        log.error(key, "missing-field", f"`{key}` is null.", fix)
        return
    keys = ", ".join(f"`{quote(str(name), 24)}`" for name in [name for name in raw if name != ABSENT][:12])
    message = f"The row has no `{key}`." + (f" It has {keys}." if keys else " It is empty.")
    log.error(key, "missing-field", message, fix)


def read_json_text(raw: Mapping[str, Any], column: str, schema: DatasetSchema, log: FaultLog) -> str:
    """Reads a value of any type as JSON text, "" if there is none; a string that is JSON text stays as it is."""
    value = raw.get(schema.key(column)) if column in schema.columns else None
    if value is None or value == "":
        return ""
    field = schema.key(column)
    if isinstance(value, str):
        text = read_text(value, field, log) or ""
        return text if _is_json(text) else json.dumps(text, ensure_ascii=False)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as err:
        message = f"This value cannot be written as JSON ({quote(str(err), 60)})."
        log.error(field, "wrong-type", message, "Use plain objects, lists, strings and finite numbers.")
        return ""
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_optional_text(raw: Mapping[str, Any], column: str, schema: DatasetSchema, log: FaultLog) -> str | None:
    """Reads a text column; None if the row has none."""
    value = raw.get(schema.key(column)) if column in schema.columns else None
    return None if value is None else read_text(value, schema.key(column), log)


def read_tools(raw: Mapping[str, Any], schema: DatasetSchema, log: FaultLog) -> str:
    """Reads the tool descriptions: a string as it is, a list or an object as JSON text."""
    value = raw.get(schema.key("tools")) if "tools" in schema.columns else None
    if isinstance(value, (list, Mapping)):
        return read_json_text(raw, "tools", schema, log)
    return read_optional_text(raw, "tools", schema, log) or ""


def read_weight(raw: Mapping[str, Any], schema: DatasetSchema, log: FaultLog) -> float | None:
    """Reads the weight of the row: a finite number of at least 0; None if the row has none."""
    value = raw.get(schema.key("weights")) if "weights" in schema.columns else None
    if value is None:
        return None
    fix = "Give a finite number of at least 0, or leave it out."
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        log.error(schema.key("weights"), "bad-weight", f"The weight is {kind(value)}, not a number.", fix)
        return None
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if math.isfinite(weight) and weight >= 0:
        return weight
    reason = "not a number (NaN)" if math.isnan(weight) else "negative" if weight < 0 else "infinite or too large"
    log.error(schema.key("weights"), "bad-weight", f"The weight is {reason}.", fix)
    return None


def read_scalar_text(raw: Mapping[str, Any], column: str, schema: DatasetSchema, log: FaultLog) -> str | None:
    """Reads a string or a number as text, as for `id` and `answer`; None if the row has none."""
    value = raw.get(schema.key(column)) if column in schema.columns else None
    return None if value is None else _scalar_text(value, schema.key(column), column, log)


def read_choices(raw: Mapping[str, Any], schema: DatasetSchema, log: FaultLog) -> tuple[str, ...]:
    """Reads the choices of a multiple-choice question, a list of strings or numbers."""
    key = schema.key("choices")
    value = raw.get(key) if "choices" in schema.columns else None
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        log.error(key, "wrong-type", f"The choices are {kind(value)}.", _ignore("a list of strings", "choices"))
        return ()
    texts = [_scalar_text(choice, f"{key}[{i}]", "choices", log) for i, choice in enumerate(value)]
    return tuple(text for text in texts if text is not None)


def _scalar_text(value: Any, field: str, column: str, log: FaultLog) -> str | None:
    if isinstance(value, str):
        return read_text(value, field, log)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:
            pass
    log.error(field, "wrong-type", f"This is {kind(value)}.", _ignore("a string or a number", column))
    return None


def _ignore(wanted: str, column: str) -> str:
    return f'Write {wanted}, or let the data set ignore it: "{column}": null under `columns`.'
