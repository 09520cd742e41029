# SPDX-License-Identifier: Apache-2.0
"""Plain-text layout for terminals: quoting, wrapping and aligning by display width."""

import unicodedata
from collections.abc import Iterable, Sequence


def quote(text: str, limit: int = 48) -> str:
    """Returns `text` on one line, at most `limit` characters long, with everything unprintable escaped."""
    shown = "".join(char if char.isprintable() else _escape(char) for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def display_width(text: str) -> int:
    """Returns the number of terminal columns that `text` fills; East Asian wide characters fill two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, width: int, right: bool = False) -> str:
    """Fills `text` up with blanks to `width` columns, on its left side if `right` is set."""
    blanks = " " * max(0, width - display_width(text))
    return blanks + text if right else text + blanks


def wrap(text: str, width: int) -> list[str]:
    """Breaks `text` at blanks into lines of at most `width` columns; longer words are cut."""
    lines, line = [], ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if display_width(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = _cut(word, width)
        lines.extend(full)
    return [*lines, line] if line or not lines else lines


def _cut(word: str, width: int) -> list[str]:
    pieces = [""]
    for char in word:
        if pieces[-1] and display_width(pieces[-1] + char) > width:
            pieces.append("")
        pieces[-1] += char
    return pieces


def hang(label: str, text: str, width: int) -> list[str]:
    """Wraps `text` to the right of `label`; following lines are indented by the label's width."""
    indent = display_width(label)
    first, *rest = wrap(text, max(width - indent, 20))
    return [label + first, *(" " * indent + line for line in rest)]


def table(rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset(), gap: int = 3) -> list[str]:
    """Aligns the cells of `rows` in columns; the columns whose numbers are in `right` are flush right."""
    rows = list(rows)
    widths = [max(display_width(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [pad(cell, widths[i], i in right) for i, cell in enumerate(row)]
        lines.append((" " * gap).join(cells).rstrip())
    return lines


def number_ranges(numbers: Iterable[int]) -> str:
    """Writes whole numbers as ranges, for example `1-4, 7, 9-12`."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Returns for example `1 row` or `3 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
