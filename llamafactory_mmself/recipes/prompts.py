# SPDX-License-Identifier: Apache-2.0
"""The prompts of a method as one frozen set; each can be replaced by a file of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from ..prompts import Prompt, PromptError, load_prompt


Files = Mapping[str, tuple[str, tuple[str, ...]]]  # name -> packaged file and placeholders

FILES: Files = {
    "direct": ("direct.txt", ("question",)),
    "cot": ("r3v_cot.txt", ("question",)),
    "refine": ("r3v_refine.txt", ("question", "prediction")),
    "select": ("r3v_select.txt", ("question", "candidates")),
    "candidate": ("r3v_candidate.txt", ("number", "solution")),
    "answer": ("stl_answer.txt", ("question",)),
    "answer_nocaption": ("stl_answer_nocaption.txt", ("question",)),
    "refute": ("stl_refute.txt", ("question", "wrong")),
    "refute_nocaption": ("stl_refute_nocaption.txt", ("question", "wrong")),
    "refute_hint": ("stl_refute_hint.txt", ("question", "right", "wrong")),
    "refute_hint_nocaption": ("stl_refute_hint_nocaption.txt", ("question", "right", "wrong")),
}


class PromptSet:
    """Prompts by name; a subclass is a frozen dataclass with a field for each of its `files`."""

    files: ClassVar[Files]

    @classmethod
    def load(cls, own: Mapping[str, str | Path] | None = None) -> Self:
        """Reads the packaged prompts, and the user's own ones where `own` names a file for a prompt.

        Raises:
            PromptError: an unknown name, or a file that cannot be used.
        """
        own = dict(own or {})
        if unknown := sorted(own.keys() - cls.files.keys()):
            raise PromptError(f"There is no prompt {unknown[0]!r}. The prompts are: {', '.join(cls.files)}.")
        return cls(**{name: load_prompt(own.get(name), *cls.files[name]) for name in cls.files})

    @property
    def digest(self) -> str:
        """One word for all texts."""
        return self.digest_of(*self.files)

    def digest_of(self, *names: str) -> str:
        """One word for the texts of some prompts; a single one has its own digest, which shows its version."""
        digests = [vars(self)[name].digest for name in names]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Prompts(PromptSet):
    """The prompts that samples are asked with and that examples are built from (R3V, STL).

    Attributes:
        direct: asks for the final answer only.
        cot: asks for reasoning and a final answer (R3V).
        refine: shows a solution and asks for a correct one (R3V).
        select: shows candidates and asks for the right final answer (R3V).
        candidate: one candidate in `select`.
        answer: see, think, answer (STL).
        answer_nocaption: the same without a caption.
        refute: asks why an option is wrong (STL).
        refute_nocaption: the same without a caption.
        refute_hint: `refute` that tells the right option.
        refute_hint_nocaption: the same without a caption.
    """

    files: ClassVar[Files] = FILES

    direct: Prompt
    cot: Prompt
    refine: Prompt
    select: Prompt
    candidate: Prompt
    answer: Prompt
    answer_nocaption: Prompt
    refute: Prompt
    refute_nocaption: Prompt
    refute_hint: Prompt
    refute_hint_nocaption: Prompt


@dataclass(frozen=True)
class SherlockPrompts(PromptSet):
    """The prompts of Sherlock.

    Attributes:
        ask: the question; the answer comes in tagged sections because the model was trained so.
        correction: shows a response and asks for a better one.
        critique: the same with a verifier's critique of that response.
        agree: asks a judge whether several answers mean the same.
        verify: asks a verifier for a critique of a response and a verdict.
    """

    files: ClassVar[Files] = {
        "ask": ("sherlock_ask.txt", ("question",)),
        "correction": ("sherlock_correction.txt", ("question", "response")),
        "critique": ("sherlock_critique.txt", ("question", "response", "critique")),
        "agree": ("judge_agree.txt", ("question", "answers")),
        "verify": ("judge_verify.txt", ("question", "response")),
    }

    ask: Prompt
    correction: Prompt
    critique: Prompt
    agree: Prompt
    verify: Prompt
