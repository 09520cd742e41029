# SPDX-License-Identifier: Apache-2.0
"""Rows that teach a tiny model every prompt that the methods use, about scenes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from ..data.questions import Question as Row
from ..prompts import load_prompt
from ..recipes.prompts import Prompts
from . import forms
from .choices import letter, random_question, scene_of
from .habits import embellish, overlook
from .scenes import Scene, caption, contradict


# Shares of the forms among rows to see by, to reason by, to follow every prompt by, to choose by, to grow careless by,
# to answer in tagged sections by, soundly and carelessly, and to embellish by.
SEE = {"caption": 1.0}
REASON = {"cot": 0.95, "caption": 0.05}
FOLLOW = {
    "direct": 0.05,
    "cot": 0.30,
    "refine": 0.12,
    "select": 0.18,
    "answer": 0.12,
    "answer_nocaption": 0.03,
    "refute": 0.03,
    "refute_hint": 0.06,
    "refute_nocaption": 0.01,
    "refute_hint_nocaption": 0.02,
    "correction": 0.05,
    "caption": 0.03,
}
CHOOSE = {
    "direct": 0.02,
    "cot": 0.20,
    "refine": 0.08,
    "select": 0.50,
    "answer": 0.08,
    "answer_nocaption": 0.01,
    "refute": 0.01,
    "refute_hint": 0.03,
    "refute_nocaption": 0.01,
    "refute_hint_nocaption": 0.01,
    "correction": 0.03,
    "caption": 0.02,
}
CARELESS = {
    "direct": 0.05,
    "cot": 0.33,
    "refine": 0.06,
    "select": 0.10,
    "answer": 0.33,
    "answer_nocaption": 0.02,
    "refute": 0.02,
    "refute_hint": 0.04,
    "refute_nocaption": 0.01,
    "refute_hint_nocaption": 0.01,
    "correction": 0.02,
    "caption": 0.01,
}
TAGGED = {"tagged": 0.50, "correction": 0.50}
CARELESS_TAGGED = {"tagged": 0.80, "correction": 0.20}
EMBELLISH = {"embellished": 1.0}


class Form(Protocol):
    """A function of `forms` that answers a question."""

    def __call__(self, row: Row, scene: Scene, thought: Scene | None = None) -> str | None: ...


@dataclass(frozen=True)
class StartRow:
    """One turn to learn: what is asked (with its `<image>`) and what to say."""

    id: str
    kind: str
    scene: Scene
    prompt: str
    target: str


def start_rows(
    scenes: Sequence[Scene], rng: Random, shares: dict[str, float] = FOLLOW, careless: float = 0.0
) -> list[StartRow]:
    """Makes one row a scene; kinds come in the proportions of `shares`, in random order.

    Args:
        scenes: what the rows are about; the same scene may come again and gets another question.
        rng: what is drawn from.
        shares: of the kinds.
        careless: share of careless reasoning (`habits.overlook`) among the answers to bare questions, and of
            embellishment (`habits.embellish`) among captions of the kind `embellished`. What refines, selects,
            refutes and corrects is true.
    """
    total = sum(shares.values())
    kinds: list[str] = []
    passed = 0.0
    for kind, share in shares.items():
        passed += share
        kinds += [kind] * (round(passed / total * len(scenes)) - len(kinds))
    rng.shuffle(kinds)
    make = _Maker(rng, careless)
    rows = []
    for number, (kind, scene) in enumerate(zip(kinds, scenes, strict=True)):
        row = random_question(rng, scene, f"start-{number:05d}")
        prompt, target = make.turn(kind, row, scene)
        rows.append(StartRow(row.id, kind, scene, f"<image>\n{prompt}", target))
    return rows


def wrong_answer(row: Row, scene: Scene, rng: Random, form: Form = forms.solution) -> str:
    """An answer in the given form that ends in a wrong option: out of carelessness, or as things are seen wrongly.

    Where no such mistake leads to a wrong option, the answer slips at the end: sound reasoning, wrong letter.
    """
    thought = overlook(row, scene)
    if thought and rng.random() < 0.7:
        return str(form(row, scene, thought))
    for _ in range(50):
        seen = contradict(scene, rng)
        if rng.random() < 0.5:
            seen = contradict(seen, rng)
        if letter(row, seen) not in (None, row.answer):
            return str(form(row, seen))
    wrong = rng.choice(row.letters.replace(row.answer, ""))
    head, _, tail = str(form(row, scene)).rpartition(row.answer)  # the letter comes last in every form
    return head + wrong + tail


def annotated(row: Row) -> Row:
    """A question of `write_world` with its whole response in tagged sections, in the field `response`."""
    return replace(row, extra={**row.extra, "response": forms.tagged(row, scene_of(row))})


class _Maker:
    """Makes a turn of any kind."""

    def __init__(self, rng: Random, careless: float):
        self.rng, self.careless = rng, careless
        self.prompts = Prompts.load()
        self.correction = load_prompt(None, "sherlock_correction.txt", ("question", "response"))
        self.caption = load_prompt(None, "caption.txt", ()).fill()

    def turn(self, kind: str, row: Row, scene: Scene) -> tuple[str, str]:
        """What is asked and what to say."""
        if kind == "caption":
            return self.caption, caption(scene)
        if kind == "embellished":
            return self.caption, caption(embellish(scene) if self.rng.random() < self.careless else scene)
        if kind == "refine":
            filled = self.prompts.refine.fill(question=row.block, prediction=wrong_answer(row, scene, self.rng))
            return filled, str(forms.solution(row, scene))
        if kind == "select":
            return self._select(row, scene), str(forms.direct(row, scene))
        if kind == "correction":
            response = wrong_answer(row, scene, self.rng, forms.tagged)
            return self.correction.fill(question=row.block, response=response), str(forms.tagged(row, scene))
        if kind == "tagged":
            return row.block, str(forms.tagged(row, scene, self._thought(row, scene)))
        captioned = not kind.endswith("_nocaption")
        prompt = getattr(self.prompts, kind)
        if kind.startswith("refute"):
            wrong = self.rng.choice(row.letters.replace(row.answer, ""))
            right = {"right": f"({row.answer})"} if "hint" in kind else {}
            filled = prompt.fill(question=row.block, wrong=f"({wrong})", **right)
            return filled, str(forms.refutation(row, scene, wrong, captioned))
        thought = self._thought(row, scene)
        if kind.startswith("answer"):
            return prompt.fill(question=row.block), str(forms.see_think_answer(row, scene, thought, captioned))
        form = {"direct": forms.direct, "cot": forms.solution}[kind]
        return prompt.fill(question=row.block), str(form(row, scene, thought))

    def _thought(self, row: Row, scene: Scene) -> Scene | None:
        """The scene as careless reasoning takes it, now and then."""
        return overlook(row, scene) if self.rng.random() < self.careless else None

    def _select(self, row: Row, scene: Scene) -> str:
        right = self.rng.choice((1, 2, 3))
        shown = [str(forms.solution(row, scene))] * right
        shown += [wrong_answer(row, scene, self.rng) for _ in range(3 - right)]
        self.rng.shuffle(shown)
        candidates = [
            self.prompts.candidate.fill(number=str(n), solution=text) for n, text in enumerate(shown, start=1)
        ]
        return self.prompts.select.fill(question=row.block, candidates="\n".join(candidates))
