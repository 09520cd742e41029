# SPDX-License-Identifier: Apache-2.0
"""Versioned answer extractors and checkers.

```python
check("geoqa", "... Answer: (B) 68.0", "B", choices=["58.0", "68.0", "78.0", "112.0"])
# Verdict(correct=True, parsed=True, answer="B", rule="letter")
```
"""

from __future__ import annotations

from collections.abc import Sequence

from . import profiles
from .profiles import ALIASES, PROFILES, describe
from .profiles import profile as profile
from .types import Found, Profile, Response, Verdict, VerifyError
from .vote import majority_vote


__all__ = [
    "ALIASES",
    "PROFILES",
    "Found",
    "Profile",
    "Response",
    "Verdict",
    "VerifyError",
    "check",
    "describe",
    "majority_vote",
    "profile",
]


def check(
    profile: str, text: str, answer: str, *, choices: Sequence[str] | None = None, question: str | None = None
) -> Verdict:
    """Reads the answer of a model's text and compares it with the truth.

    A text without a readable answer is unparsed: that is told, never guessed and never credited.

    Args:
        profile: a profile's name or alias; see `describe()`.
        text: what the model wrote.
        answer: the truth, as the data set has it; a letter (or the option's text) where there are choices.
        choices: texts of the options (A), (B), ...
        question: the question's text; TabMWP's unit is read from its `(Unit: g)`.

    Raises:
        VerifyError: there is no such profile.
    """
    return profiles.profile(profile).check(text, answer, choices=choices, question=question)
