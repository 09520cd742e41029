# SPDX-License-Identifier: Apache-2.0
"""Parsing JSON with errors that tell people what to change."""

import codecs
import json
import re
from typing import Any

from .faults import DataError, Fault
from .terminal import quote


_MAX_DIGITS = 4000  # int() refuses more than 4300 digits


def decode(data: bytes, file: str) -> str:
    """Decodes UTF-8 text, with or without a byte order mark.

    Raises:
        DataError: The bytes are not UTF-8.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError([_fault(file, "bad-encoding", "The file is UTF-16 text.", "Save it as UTF-8.")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        message = f"Line {line}: the byte 0x{data[err.start]:02x} is not valid UTF-8."
        raise DataError([_fault(file, "bad-encoding", message, "Save the file as UTF-8.")]) from err


def parse(text: str, file: str, first_line: int = 1) -> Any:
    """Parses JSON text.

    Args:
        text: The JSON text.
        file: Where it comes from, for the error.
        first_line: The line of the file that the text starts on.

    Raises:
        DataError: The text is not JSON. The only fault names line and column and says what to change.
    """
    try:
        return json.loads(text, parse_int=_parse_int)
    except json.JSONDecodeError as err:
        position, reason, fix = _explain(text, err)
        line = text.count("\n", 0, position) + first_line
        column = position - text.rfind("\n", 0, position)
        message = f"Line {line}, column {column}: {reason}"
        if excerpt := _excerpt(text, position):
            message += f" Near: {excerpt}"
        raise DataError([_fault(file, "broken-json", message, fix)]) from err
    except RecursionError as err:
        reason = "Lists and objects are nested too deeply to be read."
        raise DataError([_fault(file, "broken-json", reason, "Flatten the value.")]) from err


def _fault(file: str, code: str, message: str, fix: str) -> Fault:
    return Fault(file, 0, "", code, message, fix)


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _explain(text: str, err: json.JSONDecodeError) -> tuple[int, str, str]:
    """Returns the position of the mistake, what it is, and what to do."""
    position = err.pos
    before = text[:position].rstrip()
    rest = text[position:]
    if err.msg.startswith("Unterminated string"):
        return position, "this string is never closed.", 'Add the missing `"`.'
    if err.msg.startswith("Invalid control character"):
        return position, "a string holds a raw line break or tab.", "Write it as `\\n` or `\\t`."
    if err.msg.startswith("Invalid \\"):
        return position, "a backslash in a string starts no known escape.", "Double it: `\\\\`."
    if not rest.strip():
        if not before:
            return position, "the text is empty.", "Write a JSON list with one object per row."
        return len(before), "the text ends in the middle of a value.", "It looks cut off: copy or create it again."
    if rest[0] in "}]" and before.endswith(","):
        reason = f"a comma stands before the closing `{rest[0]}`."
        return len(before) - 1, reason, "Delete this comma: JSON allows none after the last entry."
    if err.msg.startswith("Extra data"):
        fix = "Put all objects into one list `[...]` with commas between them, or one object on each line."
        return position, "there is more text after the end of the value.", fix
    if rest[0] == "'":
        return position, "JSON has no single quotes.", 'Use double quotes (`"`).'
    if re.match(r"//|/\*|#", rest):
        return position, "JSON has no comments.", "Delete the comment."
    if literal := re.match(r"(True|False|None)\b", rest):
        right = {"True": "true", "False": "false", "None": "null"}[literal[1]]
        return position, f"`{literal[1]}` is Python, not JSON.", f"Write `{right}`."
    if err.msg.startswith("Expecting ',' delimiter"):
        if rest[0] in '"{[-0123456789' or re.match(r"(true|false|null)\b", rest):
            return len(before), "a comma is missing after this entry.", "Add the comma."
        fix = 'Is there a `"` inside a string? Write it as `\\"`. Otherwise add a comma or a closing bracket.'
        return position, "a comma or a closing bracket is missing.", fix
    return position, f"{err.msg[0].lower()}{err.msg[1:]}.", "Correct this place."


def _excerpt(text: str, position: int) -> str:
    start = max(text.rfind("\n", 0, position) + 1, position - 32)
    end = text.find("\n", position)
    shown = text[start : min(end if end >= 0 else len(text), position + 16)].strip()
    return f"`{quote(shown, 60)}`" if shown else ""
