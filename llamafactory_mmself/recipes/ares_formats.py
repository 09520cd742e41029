# SPDX-License-Identifier: Apache-2.0
"""The published prompt formats, letter by letter: what goes in (QCM, QCMG, ...), a hyphen, what comes out (E, A, ...).

Q question, C context, M options, G generated rationale, L lecture, E explanation, A answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any


@dataclass(frozen=True)
class Formatted:
    """Source and target of a sequence-to-sequence pair."""

    source: str
    target: str


def published_pair(
    problem: Mapping[str, Any], code: str, *, use_caption: bool = True, rationale: str | None = None
) -> Formatted:
    """A problem in a published format.

    Args:
        problem: a row of ScienceQA's problems.json, perhaps with `caption`.
        code: for example `QCM-E` or `QCMG-A`.
        use_caption: whether the context ends with the caption.
        rationale: the generated one for G, with its own "Solution:"; without it G shows lecture and explanation.

    Raises:
        ValueError: the format is not known.
    """
    given, _, wanted = code.partition("-")
    if not given or set(given) - set("QCMGLE") or wanted not in ("A", "E", "LE", "LEA", "ALE"):
        raise ValueError(f"{code!r} is no format: letters of QCMGLE, a hyphen, and A, E, LE, LEA or ALE are expected.")
    parts = {
        "Q": f"Question: {problem['question']}",
        "C": f"Context: {_context(problem, use_caption)}",
        "M": f"Options: {_options(problem)}",
        "G": rationale or f"Solution: {_line(problem, 'lecture')} {_line(problem, 'solution')}",
        "L": f"BECAUSE: {_line(problem, 'lecture')}",
        "E": f"BECAUSE: {_line(problem, 'solution')}",
        "LE": f"BECAUSE: {_line(problem, 'lecture')} {_line(problem, 'solution')}",
    }
    letters = [*given.replace("LE", "")] + (["LE"] if "LE" in given else [])
    cue = "Answer:" if wanted == "A" else "Solution:"
    source = "\n".join([*(parts[letter] for letter in letters), cue])
    return Formatted(_collapsed(source), _collapsed(_target(problem, wanted)))


def _target(problem: Mapping[str, Any], wanted: str) -> str:
    lecture, solution = _line(problem, "lecture"), _line(problem, "solution")
    answer = f"The answer is ({ascii_uppercase[problem['answer']]})."
    return {
        "A": answer,
        "E": f"Solution: {solution}",
        "LE": f"Solution: {lecture} {solution}.",
        "LEA": f"{lecture} {solution} {answer}",
        "ALE": f"{answer} BECAUSE: {lecture} {solution}",
    }[wanted]


def _context(problem: Mapping[str, Any], use_caption: bool) -> str:
    caption = problem.get("caption") if use_caption else ""
    return f"{problem.get('hint') or ''} {caption or ''}".strip() or "N/A"


def _options(problem: Mapping[str, Any]) -> str:
    return " ".join(f"({letter}) {text}" for letter, text in zip("ABCDE", problem["choices"], strict=False))


def _line(problem: Mapping[str, Any], name: str) -> str:
    """A text on one line: line feeds become a backslash and an n."""
    return str(problem.get(name) or "").replace("\n", "\\n")


def _collapsed(text: str) -> str:
    return " ".join(text.split())
