# SPDX-License-Identifier: Apache-2.0
"""Which responses of the STL recipe can be learnt, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.questions import Question
from ..generate.types import Sample
from ..verify.published import stl_answer, stl_refutation
from ..verify.sections import Sections, read_answer, read_refutation
from .checks import loops, mentions_hint, words
from .lengths import TokenLimit
from .records import MEDIA, Checked
from .stl_options import STLOptions, require_options, wrong_letters


def learnable_answer(item: Checked, question: Question, options: STLOptions) -> tuple[Sections, str | None]:
    """The sections of an answer, and why it cannot be learnt, or None."""
    choices = require_options(question)
    if options.quirks == "published":
        found = stl_answer(item.sample.text, choices)
        if found is None:
            return Sections(), "skipped"
        wrong = found[2] != f"({question.answer.lower()})"
        return Sections(found[0], found[1], question.answer), "wrong" if wrong else _media_problem(found[:2])
    sections = read_answer(item.sample.text, choices, caption=options.caption)
    problem: str | None = sections.problem
    if problem is None and not item.verdict.parsed:
        problem = "unparsed"
    elif problem is None and not item.verdict.correct:
        problem = "wrong"
    elif problem is None and sections.option in wrong_letters(question):
        problem = "its conclusion is not what was checked"
    return sections, problem or _text_problem(item.sample, (sections.caption, sections.reasoning), options)


def learnable_refutation(
    sample: Sample, question: Question, wrong: str, options: STLOptions
) -> tuple[Sections, str | None]:
    """The sections of a refutation, and why it cannot be learnt, or None."""
    if options.quirks == "published":
        found = stl_refutation(sample.text)
        if found is None:
            return Sections(), "skipped"
        return Sections(found[0], explanation=found[1]), _media_problem(found)
    sections = read_refutation(
        sample.text,
        caption=options.caption,
        wrong=wrong if options.checking("asserts") else None,
        right=question.answer if options.checking("cites") else None,
        choices=require_options(question),
    )
    problem: str | None = sections.problem
    if problem is None and options.checking("cites") and mentions_hint(sections.explanation, question.block):
        problem = "speaks of the hint"
    return sections, problem or _text_problem(sample, (sections.caption, sections.explanation), options)


def _text_problem(sample: Sample, texts: Sequence[str], options: STLOptions) -> str | None:
    if options.checking("cut") and sample.completion.finish_reason == "length":
        return "cut by the token limit"
    if options.checking("loops") and any(loops(text) for text in texts):
        return "runs in circles"
    return _media_problem(texts)


def _media_problem(texts: Sequence[str]) -> str | None:
    return "holds a media placeholder" if any(MEDIA.search(text) for text in texts) else None


def length_problem(
    body: str, prompt: str, target: str, question: Question, options: STLOptions, limit: TokenLimit | None
) -> str | None:
    """Why an example would be too short or too long, or None."""
    if limit is not None and not limit.fits(prompt, target, question.images):
        return "over the token limit of training"
    if options.quirks == "published":
        return None
    if len(words(body)) < options.min_words:
        return "too few words"
    too_many = options.max_words is not None and len(words(target)) > options.max_words
    return "too many words" if too_many else None
