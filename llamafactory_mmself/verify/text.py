# SPDX-License-Identifier: Apache-2.0
"""Where in a text the final answer stands: clean-up, answer markers, lines and sentences."""

from __future__ import annotations

import re
import unicodedata


# A form that announces an answer; a negated one ("the answer is not ...") announces nothing.
MARKER = re.compile(
    r"""<answer>
      | \[answer\]\s*:?
      | \banswers?\s*[:=]
      | \b(?:answer|(?:correct|right|best)\s+(?:option|choice|one|letter))\s+(?:is|are|would\ be|must\ be|should\ be)\b
        (?!\s*n[o']t\b)\s*:?
      | ^[ \t]*(?:\#+\s*)?(?:final\s+answer|answer|option|conclusion)[ \t]*(?::|$)
      | <conclusion>""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
CLOSING = re.compile(r"</\w+>|\[/?(?:rationale|context)\]", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
SENTENCE = re.compile(r"(?<=[.!?])(?<!\.M\.)\s+|\n+")
LATEX = (
    (re.compile(r"(?<=\d)\s*(?=\\[dt]?frac)"), " "),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree|\\circ\b"), "°"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"√\1"),
    (re.compile(r"\\[()\[\]]"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\\$"), "$"),
    (re.compile(r"\\angle\s*"), "∠"),
    (re.compile(r"\\pi\b"), "π"),
)
MARKS = str.maketrans(
    {"−": "-", "‐": "-", "‑": "-", "–": "-", "—": "-", "：": ":", "\u00a0": " ", "`": None, "’": "'"}
)


def plain(text: str) -> str:
    """Takes Markdown emphasis, simple LaTeX and wide characters out, so that one pattern fits all spellings."""
    text = text.translate(MARKS)
    text = "".join(unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" else c for c in text)
    if "\\" in text:
        for pattern, replacement in LATEX:
            text = pattern.sub(replacement, text)
    return re.sub(r"\*\*|__", "", text)


def final_segment(text: str) -> tuple[str | None, bool]:
    """Finds what follows the last answer marker that has anything after it, or stands in the last `\\boxed{}`.

    Args:
        text: as `plain` returns it.

    Returns:
        The segment, and whether there is any marker; (None, True) when nothing follows a marker, as in cut texts.
    """
    marks = [(match.end(), None) for match in MARKER.finditer(text)]
    boxes = [(match.start(), match.group(1)) for match in BOXED.finditer(text)]
    for end, inside in sorted(marks + boxes, key=lambda mark: mark[0], reverse=True):
        if inside is not None:
            return inside.strip(), True
        segment = CLOSING.split(BOXED.sub(r"\1", text[end:]), maxsplit=1)[0].strip().lstrip(":=*").strip()
        if segment:
            return segment, True
    return None, bool(marks or boxes)


def first_line(text: str) -> str:
    """The first line that is not blank."""
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def sentences(text: str) -> list[str]:
    """Sentences and lines, without the blank ones and the bare numbers of numbered lists."""
    parts = (part.strip() for part in SENTENCE.split(text))
    return [part for part in parts if part and not re.fullmatch(r"\d+[.)]", part)]
