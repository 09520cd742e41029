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
# Words that take an answer back. "no" and "actually" do so behind a break only: "no other", "is actually".
TAKEN_BACK = re.compile(
    r"""\b(?:wait|scratch\ that|on\ second\ thought|correction|i\ mean)\b
      | (?<=[.,;:!?)\n-])\s*\b(?:oh|hm+|sorry|oops|actually|no(?=\s*[,.;:!-]|\s+wait))\b""",
    re.IGNORECASE | re.VERBOSE,
)
WITHDRAWN = re.compile(
    r"\b(?:wrong|incorrect|mistake|mistaken|not\s+(?:right|correct)|(?:re-?)?(?:check|consider|think|count)\b.{0,20}\bagain"
    r"|re-?(?:check|consider|think|count))\b",
    re.IGNORECASE,
)
RESTATED = re.compile(
    r"[\s,.:;!-]*(?:(?:it|that|this)(?:'s|\s+is|\s+should\s+be|\s+must\s+be)|should\s+be|rather|make\s+that)\s+",
    re.IGNORECASE,
)
NEXT_QUESTION = re.compile(r"\n\s*(?:question|q)\s*:.*", re.IGNORECASE | re.DOTALL)
LONGEST_AFTERTHOUGHT = 1000  # characters of an afterthought that are read, its end
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


def afterthoughts(segment: str) -> tuple[str, list[str]]:
    """Splits an announced answer at the words that take it back.

    Returns:
        What was announced first, and what follows each "wait" or "no,"; a question that comes next is left out. Words
        that stand before any answer take nothing back.
    """
    text = NEXT_QUESTION.sub("", segment)
    marks = [mark for mark in TAKEN_BACK.finditer(text) if re.search(r"\w", text[: mark.start()])]
    if not marks:
        return segment, []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    parts = [text[mark.end() : end][-LONGEST_AFTERTHOUGHT:] for mark, end in zip(marks, ends, strict=True)]
    return text[: marks[0].start()], parts


def corrected(segment: str) -> str:
    """What an announced answer says in the end: behind the last "wait, it is", or what was announced first.

    "3. Wait, it's 4." is 4, and "3. No, that is wrong." is "". For options there is `letters.read_option`, which knows
    more ways to say it.
    """
    announced, after = afterthoughts(segment)
    for part in reversed(after):
        restated = RESTATED.match(part)
        if WITHDRAWN.search(part) or not re.search(r"\w", part):
            return ""
        if restated:
            return part[restated.end() :]
    return announced


def first_line(text: str) -> str:
    """The first line that is not blank."""
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def sentences(text: str) -> list[str]:
    """Sentences and lines, without the blank ones and the bare numbers of numbered lists."""
    parts = (part.strip() for part in SENTENCE.split(text))
    return [part for part in parts if part and not re.fullmatch(r"\d+[.)]", part)]
