# SPDX-License-Identifier: Apache-2.0
"""Rows for the weak start: few examples of every prompt that the methods use, about scenes of their own.

A model that has seen them follows the prompts of all methods, often sees what is there, and is far from perfect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ..data.questions import Question as Row
from ..prompts import load_prompt
from ..recipes.prompts import Prompts
from . import forms
from .choices import letter, random_question
from .scenes import Scene, caption, contradict


# Shares of the forms among rows to see by, to reason by, and to follow every prompt by.
SEE = {"caption": 1.0}
REASON = {"cot": 0.9, "caption": 0.1}
FOLLOW = {
    "direct": 0.06,
    "cot": 0.44,
    "refine": 0.10,
    "select": 0.10,
    "answer": 0.12,
    "answer_nocaption": 0.02,
    "refute": 0.03,
    "refute_hint": 0.06,
    "refute_nocaption": 0.01,
    "refute_hint_nocaption": 0.02,
    "correction": 0.02,
    "caption": 0.02,
}


@dataclass(frozen=True)
class StartRow:
    """One turn to learn: what is asked (with its `<image>`) and what to say."""

    id: str
    kind: str
    scene: Scene
    prompt: str
    target: str


def start_rows(scenes: list[Scene], rng: Random, shares: dict[str, float] = FOLLOW) -> list[StartRow]:
    """Makes one row a scene; kinds come in the proportions of `shares`, in random order."""
    total = sum(shares.values())
    kinds: list[str] = []
    passed = 0.0
    for kind, share in shares.items():
        passed += share
        kinds += [kind] * (round(passed / total * len(scenes)) - len(kinds))
    rng.shuffle(kinds)
    prompts = Prompts.load()
    correction = load_prompt(None, "sherlock_correction.txt", ("question", "response"))
    makers: dict[str, Callable[[Row, Scene, Random], tuple[str, str]]] = {
        "direct": lambda row, scene, rng: (prompts.direct.fill(question=row.block), f"Answer: {row.answer}"),
        "cot": lambda row, scene, rng: (prompts.cot.fill(question=row.block), str(forms.solution(row, scene))),
        "refine": lambda row, scene, rng: _refine(row, scene, rng, prompts),
        "select": lambda row, scene, rng: _select(row, scene, rng, prompts),
        "correction": lambda row, scene, rng: (
            correction.fill(question=row.block, response=wrong_answer(row, scene, rng, forms.tagged)),
            str(forms.tagged(row, scene)),
        ),
        "caption": lambda row, scene, rng: (load_prompt(None, "caption.txt", ()).fill(), caption(scene)),
    }
    rows = []
    for number, (kind, scene) in enumerate(zip(kinds, scenes, strict=True)):
        row = random_question(rng, scene, f"start-{number:05d}")
        if kind in makers:
            prompt, target = makers[kind](row, scene, rng)
        else:
            prompt, target = _stl(kind, row, scene, rng, prompts)
        rows.append(StartRow(row.id, kind, scene, f"<image>\n{prompt}", target))
    return rows


def wrong_answer(
    row: Row, scene: Scene, rng: Random, form: Callable[[Row, Scene], str | None] = forms.solution
) -> str:
    """An answer in the given form that ends in a wrong option, because one or two things are seen wrongly.

    Where no such mistake leads to a wrong option, the answer slips at the end: sound reasoning, wrong letter.
    """
    for _ in range(50):
        seen = contradict(scene, rng)
        if rng.random() < 0.5:
            seen = contradict(seen, rng)
        if letter(row, seen) not in (None, row.answer):
            return str(form(row, seen))
    wrong = rng.choice(row.letters.replace(row.answer, ""))
    head, _, tail = str(form(row, scene)).rpartition(row.answer)  # the letter comes last in every form
    return head + wrong + tail


def _refine(row: Row, scene: Scene, rng: Random, prompts: Prompts) -> tuple[str, str]:
    prompt = prompts.refine.fill(question=row.block, prediction=wrong_answer(row, scene, rng))
    return prompt, str(forms.solution(row, scene))


def _select(row: Row, scene: Scene, rng: Random, prompts: Prompts) -> tuple[str, str]:
    right = rng.choice((1, 2))
    shown = [str(forms.solution(row, scene))] * right + [wrong_answer(row, scene, rng) for _ in range(3 - right)]
    rng.shuffle(shown)
    candidates = [prompts.candidate.fill(number=str(n), solution=text) for n, text in enumerate(shown, start=1)]
    return prompts.select.fill(question=row.block, candidates="\n".join(candidates)), f"Answer: {row.answer}"


def _stl(kind: str, row: Row, scene: Scene, rng: Random, prompts: Prompts) -> tuple[str, str]:
    captioned = not kind.endswith("_nocaption")
    prompt = getattr(prompts, kind)
    if kind.startswith("answer"):
        return prompt.fill(question=row.block), str(forms.see_think_answer(row, scene, captioned))
    wrong = rng.choice(row.letters.replace(row.answer, ""))
    right = {"right": f"({row.answer})"} if "hint" in kind else {}
    target = str(forms.refutation(row, scene, wrong, captioned))
    return prompt.fill(question=row.block, wrong=f"({wrong})", **right), target
