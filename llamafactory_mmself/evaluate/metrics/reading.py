# SPDX-License-Identifier: Apache-2.0
"""How answers are read: options, yes and no, short answers; and how the published graders read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from string import ascii_uppercase
from types import MappingProxyType
from typing import NamedTuple

from ... import verify
from ...verify import numbers
from ...verify.letters import option_letter
from ...verify.text import corrected, final_segment, first_line, plain, sentences
from .base import Answer, Item, MetricError
from .columns import need
from .vqa_text import normal, without_punctuation


class Read(NamedTuple):
    """What was made of an answer: how right it is, from 0 to 1, and whether it could be read."""

    right: float
    parsed: bool


_LEAD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_THERE = re.compile(
    r"(?:.{0,60},\s*)?there\s+(?:is|are|was|were)(?P<no>\s+(?:no|not|nothing|none|neither)\b|n['’]t\b)?", re.IGNORECASE
)


def read_yes_no(text: str) -> bool | None:
    """Whether a text says yes or no; None where that is not clear.

    An announced answer ("Answer: yes") counts before its first word, this before a statement ("There is no dog."), and
    that before the one of the two words that the first or the last sentence has.
    """
    text = plain(text).strip()
    segment, marked = final_segment(text)
    if marked:
        text = corrected(segment or "")
    if lead := _LEAD.match(text):
        return lead[1].lower() == "yes"
    said = sentences(text)
    if said and (there := _THERE.match(said[0])):
        return there["no"] is None
    for sentence in said[:1] + said[-1:]:
        words = {"yes", "no"} & set(re.findall(r"[a-z]+", sentence.lower()))
        if len(words) == 1:
            return "yes" in words
    return None


def yes_or_no(item: Item) -> bool:
    """The true answer of a yes/no question: `answer` is yes, no, 1, 0, true or false.

    Raises:
        MetricError: it is something else, or missing.
    """
    said = str(need(item, "answer", "yes or no")).strip().rstrip(".").lower()
    if said not in ("yes", "no", "1", "0", "true", "false"):
        raise MetricError(f"Item {item.id!r}: the true answer is yes or no, not {said!r}. Mend 'answer'.")
    return said in ("yes", "1", "true")


def short_answer(text: str) -> str:
    """The announced answer's first line, without an announcement the whole text."""
    text = plain(text).strip()
    segment, marked = final_segment(text)
    return first_line(corrected(segment or "")).strip() if marked else text


def true_option(item: Item) -> str:
    """The true option as the profiles want it: an index of the options becomes a letter."""
    truth = need(item, "answer", "the true option")
    index = choices_of(item) and isinstance(truth, int)
    return ascii_uppercase[truth] if index else str(truth)


def choices_of(item: Item) -> tuple[str, ...]:
    """The texts of the options; none where the question has them in its text, or has no options."""
    return tuple(str(choice) for choice in item.truth.get("choices") or ())


def checked(answer: Answer, profile: str) -> Read:
    """Reads and compares with a verification profile."""
    item = answer.item
    verdict = verify.check(
        profile,
        answer.text,
        true_option(item),
        choices=choices_of(item) or None,
        question=str(item.truth.get("question") or item.prompt),
    )
    return Read(float(verdict.correct), verdict.parsed)


def same_words(text: str, truth: str) -> Read:
    """Reads a short free answer: as yes or no, as a number, or as words, whatever the truth is."""
    if normal(truth) in ("yes", "no"):
        said = read_yes_no(text)
        return Read(float(said is not None and said == (normal(truth) == "yes")), said is not None)
    short = short_answer(text)
    if not normal(short):
        return Read(0.0, False)
    goal = number_of(truth)
    if goal is not None:
        found = number_of(short) if numbers.result(short) is None else numbers.result(short)
        return Read(float(found is not None and numbers.same(found, goal)), found is not None)
    return Read(float(normal(short) == normal(truth)), True)


def number_of(text: str) -> Fraction | None:
    """The number that a text is, in digits or as a word up to ten."""
    found = numbers.parse(text)
    return numbers.parse(normal(text)) if found is None else found


def options_or_words(answer: Answer) -> Read:
    """RealWorldQA, which mixes them: the true answer is a letter, or there are options, or it is free."""
    truth = true_option(answer.item)
    if choices_of(answer.item) or re.fullmatch(r"\(?[A-Z]\)?\.?", truth.strip()):
        return checked(answer, "letters")
    return same_words(answer.text, truth)


def _letters(answer: Answer) -> Read:
    return checked(answer, "letters")


def _mmstar_published(answer: Answer) -> Read:
    """The text without brackets, dots and blanks starts with the letter: so does "An apple" with A."""
    said = _bare(answer.text, r"[()\s.]")
    return Read(float(said.startswith(_bare(true_option(answer.item), r"[()\s.]"))), bool(said))


def _realworldqa_published(answer: Answer) -> Read:
    """Four characters of an option question's text, or all of another's, without brackets, dots and blanks."""
    wanted = _bare(true_option(answer.item), r"[()\s.]")
    text = answer.text.strip()
    if "answer directly with only the letter of the correct option" in answer.item.prompt.lower():
        text = text[:4]
    said = _bare(text, r"[()\s.]")
    return Read(float(said == wanted), bool(said))


def _cvbench_published(answer: Answer) -> Read:
    """Four characters without brackets and blanks are the label: "B." is not."""
    said = _bare(answer.text.strip()[:4], r"[()\s]")
    return Read(float(said == _bare(true_option(answer.item), r"[()\s]")), bool(said))


def _vlmevalkit_published(answer: Answer) -> Read:
    """The one option letter among the words, else the one option whose text occurs, in a text that is not too long."""
    options = dict(zip(ascii_uppercase, choices_of(answer.item) or [""] * 4, strict=False))
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", answer.text).split()
    named = [letter for letter in options if letter in words]
    if not named and "Z" in words:
        return Read(0.0, False)
    if len(named) != 1:
        named = []
    if not named and len(answer.text) <= 2 * sum(map(len, options.values())):
        named = [letter for letter, text in options.items() if text.lower() in answer.text.lower()]
    truth = option_letter(true_option(answer.item), choices_of(answer.item))
    return Read(float(named == [truth]), len(named) == 1)


def _scienceqa_published(answer: Answer) -> Read:
    """Exactly one "The answer is (B)"; the original throws dice for other texts, which are unparsed here."""
    found = re.findall(r"The answer is \(([A-Z])\)", answer.text)
    parsed = len(found) == 1 and found[0] in "ABCDE"
    return Read(float(parsed and found[0] == true_option(answer.item).strip("()")), parsed)


def _bare(text: str, pattern: str) -> str:
    return re.sub(pattern, "", text.strip().lower())


# Rule -> (how it is read right, how the published grader reads it).
RULES: Mapping[str, tuple[Callable[[Answer], Read], Callable[[Answer], Read]]] = MappingProxyType(
    {
        "letters": (_letters, _letters),
        "mmstar": (_letters, _mmstar_published),
        "realworldqa": (options_or_words, _realworldqa_published),
        "cvbench": (_letters, _cvbench_published),
        "vlmevalkit": (_letters, _vlmevalkit_published),
        "scienceqa": (_letters, _scienceqa_published),
    }
)


def pope_published(text: str) -> bool:
    """LLaVA's rule: yes, unless the words up to the first full stop have a "No", "no" or "not"."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def mme_published(text: str) -> bool | None:
    """MME's rule: the text itself, a single y or n, or the first four characters."""
    said = text.lower().strip().replace(".", "")
    if len(said) == 1:
        return {"y": True, "n": False}.get(said)
    return True if "yes" in said[:4] else False if "no" in said[:4] else None


def hallusion_published(text: str) -> bool | None:
    """VLMEvalKit's rule: one of the two words occurs and the other does not."""
    words = set(without_punctuation(text.lower(), most=32).split()) & {"yes", "no"}
    return "yes" in words if len(words) == 1 else None
