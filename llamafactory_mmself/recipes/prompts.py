# SPDX-License-Identifier: Apache-2.0
"""The prompts of R3V and STL as one frozen set; each can be replaced by a file of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from ..prompts import Prompt, PromptError, load_prompt


# Name -> packaged file and placeholders.
FILES: Mapping[str, tuple[str, tuple[str, ...]]] = {
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


@dataclass(frozen=True)
class Prompts:
    """The prompts that samples are asked with and that examples are built from.

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

    @classmethod
    def load(cls, own: Mapping[str, str | Path] | None = None) -> Prompts:
        """Reads the packaged prompts, and the user's own ones where `own` names a file for a prompt.

        Raises:
            PromptError: an unknown name, or a file that cannot be used.
        """
        own = dict(own or {})
        if unknown := sorted(own.keys() - FILES.keys()):
            raise PromptError(f"There is no prompt {unknown[0]!r}. The prompts are: {', '.join(FILES)}.")
        return cls(**{name: load_prompt(own.get(name), *FILES[name]) for name in FILES})

    @property
    def digest(self) -> str:
        """One word for all texts."""
        return self.digest_of(*(field.name for field in fields(self)))

    def digest_of(self, *names: str) -> str:
        """One word for the texts of some prompts; a single one has its own digest, which shows its version."""
        digests = [vars(self)[name].digest for name in names]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
