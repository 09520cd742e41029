# SPDX-License-Identifier: Apache-2.0
"""Accuracies: with any verification profile, of options, of CV-Bench, ScienceQA, A-OKVQA and the toy world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ... import verify
from ...verify.letters import option_letter
from .base import PARSED, Answer, Column, Columns, Figures, Item, MetricError
from .columns import Keys, Quirks, by_part, check_quirks, column, groups, mean, need, parts, versioned
from .reading import RULES, Read, checked, short_answer, true_option
from .vqa_text import normal


RIGHT = "right"


def scored(answers: Sequence[Answer], reads: Sequence[Read], category: Keys) -> dict[str, Column]:
    """The columns of a plain accuracy: how right, whether parsed, categories, and pictures shown more than once."""
    return {
        RIGHT: column(read.right for read in reads),
        PARSED: column(read.parsed for read in reads),
        **parts(answers, category),
        **groups(answers),
    }


def accuracy(columns: Columns) -> dict[str, float]:
    """Percent of right answers; unparsed ones are wrong."""
    return {"accuracy": 100 * mean(columns[RIGHT])}


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers as a verification profile sees them.

    Figures: `accuracy` = 100 * right / all, in percent, and `accuracy/CATEGORY`. Unparsed answers are wrong.
    Truth: `answer`; `choices` where there are options; `question` where the profile needs more than the prompt
    (TabMWP's unit); the keys of `category`. Source: the profile's data set, see `verify.describe()`.

    Attributes:
        profile: name of a verification profile.
        category: keys of the truth to report by.
    """

    profile: str
    category: Keys = "category"
    name: ClassVar[str] = "accuracy"
    headline: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        verify.profile(self.profile)

    @property
    def version(self) -> int:
        """Rises with the profile's."""
        return versioned(1, self.profile)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        return scored(answers, [checked(answer, self.profile) for answer in answers], self.category)

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, accuracy)


@dataclass(frozen=True)
class Toy(Accuracy):
    """Accuracy on the toy world's questions, in percent; see `Accuracy`. Truth: `answer`, `choices`, `category`."""

    profile: str = "toy"
    name: ClassVar[str] = "toy"


@dataclass(frozen=True)
class Options:
    """Share of right options (MMStar, arXiv 2403.20330; RealWorldQA, xAI 2024; AI2D, arXiv 1603.07396).

    Figures: `accuracy` in percent and `accuracy/CATEGORY`. Unparsed answers are wrong.
    Truth: `answer` (a letter, an option's text or its index); `choices`, without which any letter is an option; the
    keys of `category`.

    By default options are read with a verification profile, for RealWorldQA free answers by value or words as well.
    With quirks="published" the rule's own grader reads them: `mmstar` and `cvbench` compare the beginning of the text,
    so that "An apple" is A and "B." is none; `realworldqa` wants the prompt to be the benchmark's; `vlmevalkit` takes
    the one letter among the words, else the one option whose text occurs, and asks no judge.

    Attributes:
        rule: whose grader: letters, mmstar, realworldqa, cvbench, vlmevalkit, scienceqa.
        profile: a verification profile instead of a rule.
        category: keys of the truth to report by.
        quirks: which grader.
    """

    rule: str = "letters"
    profile: str | None = None
    category: Keys = "category"
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "options"
    headline: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        check_quirks(self.quirks)
        if self.rule not in RULES:
            raise MetricError(f"There is no rule {self.rule!r} for options. Known: {', '.join(RULES)}.")
        if self.profile is not None:
            verify.profile(self.profile)
            if self.rule != "letters" or self.quirks == "published":
                raise MetricError("Give either a rule or a profile; only a rule has a published form.")

    @property
    def version(self) -> int:
        """Rises with the profile's."""
        # What RealWorldQA's free answers say of yes and no is read anew.
        own = 2 if self.rule == "realworldqa" else 1
        return versioned(own, self.profile or "letters")

    def read(self, answer: Answer) -> Read:
        """Whether one answer is right, and whether it could be read."""
        if self.profile is not None:
            return checked(answer, self.profile)
        fixed, published = RULES[self.rule]
        return published(answer) if self.quirks == "published" else fixed(answer)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        return scored(answers, [self.read(answer) for answer in answers], self.category)

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, accuracy)


SOURCES = ("ADE20K", "COCO", "Omni3D")


@dataclass(frozen=True)
class CVBench:
    """CV-Bench (arXiv 2406.16860): the mean of two accuracies.

    Figures, in percent: `2d` = (ADE20K + COCO) / 2, `3d` = Omni3D, `accuracy` = (2d + 3d) / 2, and
    `accuracy/source=...`, `accuracy/task=...`. A source without items makes the means over it NaN; a source or task
    without a right answer counts as 0, where the published script breaks off.
    Truth: `answer`, `source`, `task`; `choices`.

    Attributes:
        quirks: `published` reads answers as S-VCO's grader does; see `Options`.
    """

    quirks: Quirks = "fixed"
    name: ClassVar[str] = "cvbench"
    headline: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    @property
    def version(self) -> int:
        """Rises with that of the profile for letters."""
        return versioned(1, "letters")

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        for answer in answers:
            source = need(answer.item, "source", "the data set that the picture comes from")
            if source not in SOURCES:
                known = ", ".join(SOURCES)
                raise MetricError(f"Item {answer.item.id!r}: 'source' is one of {known}, not {source!r}.")
        options = Options("cvbench", category=("source", "task"), quirks=self.quirks)
        return options.columns(answers)

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        found = by_part(columns, accuracy)
        ade, coco, omni = (found.get(f"accuracy/source={source}", float("nan")) for source in SOURCES)
        flat = (ade + coco) / 2
        return found | {"accuracy": (flat + omni) / 2, "2d": flat, "3d": omni}


@dataclass(frozen=True)
class ScienceQA:
    """ScienceQA (arXiv 2209.09513): accuracy in all and by what a question has.

    Figures, in percent: `accuracy`; `accuracy/natural`, `/social`, `/language` (by `subject`); `/text` (there is a
    hint), `/image`, `/no_context` (neither); `/grade_1_6`, `/grade_7_12`. Any set of items can be scored; the official
    script wants all 4,241, and divides by zero where a category is empty.
    Truth: `answer` (letter or index), `choices`, `subject` ("natural science"), `grade` ("grade7"), `hint`. An item
    has an image if it has pictures, or if the truth has a non-empty `image`.

    With quirks="published" the text has to have exactly one "The answer is (B)"; others get a random option there and
    none here; figures have two decimals.

    Attributes:
        quirks: how answers are read.
    """

    quirks: Quirks = "fixed"
    name: ClassVar[str] = "scienceqa"
    headline: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    @property
    def version(self) -> int:
        """Rises with that of the profile for letters."""
        return versioned(1, "letters")

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        options = Options("scienceqa", category="breakdown", quirks=self.quirks)
        filed = [
            replace(one, item=replace(one.item, truth={**one.item.truth, "breakdown": _kinds(one.item)}))
            for one in answers
        ]
        return options.columns(filed)

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        found = by_part(columns, accuracy)
        return {name: round(value, 2) for name, value in found.items()} if self.quirks == "published" else found


def _kinds(item: Item) -> list[str]:
    """The categories that a ScienceQA question is in."""
    need(item, "subject", "the subject, such as 'natural science'")
    grade = str(need(item, "grade", "the grade, such as 'grade7'"))
    if not grade.removeprefix("grade").isdigit():
        raise MetricError(f"Item {item.id!r}: a 'grade' looks like 'grade7', not {grade!r}.")
    return scienceqa_kinds(item.truth, bool(item.images or item.truth.get("image")))


def scienceqa_kinds(facts: Mapping[str, Any], image: bool) -> list[str]:
    """The categories of a question by its `subject`, `grade` and `hint`, of which any may be missing."""
    subject, hint = str(facts.get("subject") or ""), bool(facts.get("hint"))
    grade = str(facts.get("grade") or "").removeprefix("grade")
    kinds = subject.split()[:1]
    if grade.isdigit():
        kinds.append("grade_1_6" if int(grade) <= 6 else "grade_7_12")
    kinds += ["text"] * hint + ["image"] * image
    return kinds if hint or image else [*kinds, "no_context"]


@dataclass(frozen=True)
class AOKVQA:
    """A-OKVQA (arXiv 2206.01718), in one of its two settings.

    Figures: `accuracy` in percent and `accuracy/CATEGORY`. `choice`: share of right options. `direct`: the mean of
    min(1, equal answers of the ten people / 3), without questions marked as difficult to answer directly.
    Truth: `answer` (letter, text or index of the option) and `choices`, or `direct_answers` (a list) and
    `difficult_direct_answer` (false if missing).

    By default, answers are compared in the normal form of the VQA challenges, and an announced answer ("Answer: sky")
    is taken out of its text. With quirks="published" texts are equal letter by letter or not at all, as in the
    official script, to which an option is its text.

    Attributes:
        setting: `choice` or `direct`.
        category: keys of the truth to report by.
        quirks: how answers are compared.
    """

    setting: Literal["choice", "direct"] = "choice"
    category: Keys = "category"
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "aokvqa"
    headline: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        check_quirks(self.quirks)
        if self.setting not in ("choice", "direct"):
            raise MetricError(f"A-OKVQA's setting is 'choice' or 'direct', not {self.setting!r}.")

    @property
    def version(self) -> int:
        """Rises with that of the profile for letters."""
        return versioned(1, "letters")

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        read = self._option if self.setting == "choice" else self._direct
        asked = column(
            self.setting == "choice" or not answer.item.truth.get("difficult_direct_answer") for answer in answers
        )
        return {**scored(answers, [read(answer) for answer in answers], self.category), "asked": asked}

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, lambda part: {"accuracy": 100 * mean(part[RIGHT], part["asked"])})

    def _option(self, answer: Answer) -> Read:
        if self.quirks == "fixed":
            return checked(answer, "letters")
        choices = [str(choice) for choice in need(answer.item, "choices", "the list of options")]
        letter = option_letter(true_option(answer.item), choices)
        right = letter is not None and answer.text == choices["ABCDEFGH".index(letter)]
        return Read(float(right), answer.text in choices)

    def _direct(self, answer: Answer) -> Read:
        people = [str(said) for said in need(answer.item, "direct_answers", "the list of people's answers")]
        text = answer.text
        if self.quirks == "fixed":
            text, people = normal(short_answer(text)), [normal(said) for said in people]
        return Read(min(1.0, people.count(text) / 3), bool(text))
