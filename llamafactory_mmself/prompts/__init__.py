# SPDX-License-Identifier: Apache-2.0
"""Prompts as text files with named placeholders and a version.

A file starts with a line `version: <word>`, then a blank line, then the text. A word in braces, `{name}`, stands for a
value; other braces are plain text. Blanks at line ends and around the text are removed, so that no editor changes a
token unseen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


FOLDER = Path(__file__).parent

_HEADER = re.compile(r"version:[ \t]*(\S+)[ \t]*\r?\n[ \t]*\r?\n")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class PromptError(ValueError):
    """A prompt file that cannot be used."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with placeholders.

    Attributes:
        file: where it comes from.
        version: what its first line says.
        text: the text with its placeholders.
    """

    file: str
    version: str
    text: str

    @property
    def digest(self) -> str:
        """Version and content in one word, for fingerprints and reports."""
        return f"{self.version}-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"

    def fill(self, **values: str) -> str:
        """The text with its placeholders replaced; placeholders inside the values stay as they are."""
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.text)

    def values(self, filled: str) -> dict[str, str] | None:
        """What `fill` was given to make a text; None for texts that this prompt does not make."""
        pieces = _PLACEHOLDER.split(self.text)  # plain texts, and names of placeholders between them
        pattern = "".join(
            f"(?P<{piece}>.*?)" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)
        )
        match = re.fullmatch(pattern, filled, re.DOTALL)
        return None if match is None else match.groupdict()


def load_prompt(file: str | Path | None, default: str, placeholders: Collection[str]) -> Prompt:
    """Reads a prompt file.

    Args:
        file: the user's own file, or None for the one that comes with the package.
        default: name of the packaged file.
        placeholders: every one of them has to occur in the text, and no other.

    Raises:
        PromptError: naming the file and what is wrong in it.
    """
    path = FOLDER / default if file is None else Path(file)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            f"Prompt file {path} cannot be read: {error}. Give the path of a UTF-8 text file."
        ) from error
    header = _HEADER.match(content)
    if header is None:
        raise PromptError(f"Prompt file {path} has to start with a line `version: <word>` and a blank line.")
    text = "\n".join(line.rstrip() for line in content[header.end() :].splitlines()).strip()
    found = set(_PLACEHOLDER.findall(text))
    for name in sorted(found ^ set(placeholders)):
        known = ", ".join(f"{{{item}}}" for item in sorted(placeholders))
        problem = f"does not use {{{name}}}" if name in placeholders else f"uses {{{name}}}, which has no value"
        raise PromptError(f"Prompt file {path} {problem}; its placeholders are {known}.")
    return Prompt(str(path), header[1], text)
