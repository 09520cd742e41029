# SPDX-License-Identifier: Apache-2.0
"""Shell commands of Markdown pages and notebooks."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = (
    "README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *(f"{folder}/README.md" for folder in ("examples", "data", "benchmarks", "patches")),
)
SHELLS = ("bash", "console", "sh")
PROMPT = "$ "  # before a command of a console block; other lines are its output

_FENCE = re.compile(r"^\s*(```+|~~~+)\s*([\w-]*)")
_PLACEHOLDER = re.compile(r"<([a-z][a-z ]*)>")  # <this repository>
# Quoted texts are kept; comments and redirections go.
_NOISE = re.compile(
    r"""('[^']*'|"(?:\\.|[^"\\])*")"""
    r"|(?<!\S)\#.*"
    r"|(?<!\S)(?:\d>&\d|[&\d]?>>?\s*[^\s&]+|<\s+\S+)"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Command:
    """A command as a reader would type it.

    Attributes:
        page: path below the root.
        line: of the page where it begins; of a notebook, the number of the cell.
        words: the program and its arguments.
        environment: what is assigned in front of it.
        shown: the output that a console block shows.
    """

    page: str
    line: int
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    shown: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"

    def begins(self, words: str) -> bool:
        """Whether its first words are these."""
        wanted = tuple(words.split())
        return self.words[: len(wanted)] == wanted


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line of the page after the fence, and its lines."""

    language: str
    line: int
    lines: tuple[str, ...]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    fence, language, start, held = "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, language, start, held = found[1], found[2], number + 1, []
        elif fence and line.strip() == fence:
            yield Block(language, start, tuple(held))
            fence = ""
        else:
            held.append(line)


def commands_of(page: str) -> list[Command]:
    """All commands of a page, in its order."""
    found = blocks((ROOT / page).read_text(encoding="utf-8"))
    return [command for block in found if block.language in SHELLS for command in block_commands(page, block)]


def block_commands(page: str, block: Block) -> Iterator[Command]:
    """The commands of one block, with `&&` and `;` taken apart.

    Raises:
        ValueError: a line cannot be read as a command.
    """
    if block.language != "console":
        for number, line in _joined(block.lines, block.line):
            yield from _split(page, number, line)
        return
    starts = [place for place, line in enumerate(block.lines) if line.startswith(PROMPT)]
    for start, end in zip(starts, [*starts[1:], len(block.lines)], strict=True):
        *first, last = _split(page, block.line + start, block.lines[start].removeprefix(PROMPT))
        yield from first
        yield replace(last, shown="\n".join(block.lines[start + 1 : end]))


def cell_commands(notebook: Path) -> Iterator[Command]:
    """The commands of a notebook's `%%bash` cells and of its lines with `!`."""
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        lines = "".join(cell["source"]).splitlines() if cell["cell_type"] == "code" else []
        if lines and lines[0].startswith("%%bash"):
            lines = lines[1:]
        else:
            lines = [line[1:] for line in lines if line.startswith("!")]
        for _, line in _joined(lines, 1):
            yield from _split(notebook.name, number, line)


def _joined(lines: Sequence[str], number: int) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, and the number of the first of each."""
    whole, start = "", number
    for place, line in enumerate(lines, number):
        start = start if whole else place
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        yield start, whole + line
        whole = ""


def _split(page: str, number: int, line: str) -> Iterator[Command]:
    plain = _PLACEHOLDER.sub(lambda found: found[1].replace(" ", "_"), line)
    plain = _NOISE.sub(lambda found: found[1] or " ", plain)
    reader = shlex.shlex(plain, posix=True, punctuation_chars="&;|")
    reader.whitespace_split, reader.commenters = True, ""
    try:
        tokens = list(reader)
    except ValueError as error:
        raise ValueError(f"{page}:{number}: no command that can be read ({error}): {line}") from error
    words: list[str] = []
    for token in [*tokens, ";"]:
        if token and set(token) <= set("&;|"):
            yield from _command(page, number, words)
            words = []
        else:
            words.append(token)


def _command(page: str, number: int, words: Sequence[str]) -> Iterator[Command]:
    count = next((place for place, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
    if words[count:]:
        assigned = dict(word.split("=", 1) for word in words[:count])
        yield Command(page, number, tuple(words[count:]), assigned)
