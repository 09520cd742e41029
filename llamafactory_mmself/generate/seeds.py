# SPDX-License-Identifier: Apache-2.0
"""Seeds of single requests."""

from __future__ import annotations

import hashlib


def request_seed(seed: int, *parts: object) -> int:
    """A seed from 0 to 2**31 - 1, made from another one and the names of what it is for.

    Neighbouring seeds give unrelated ones, so that samples of different requests share no dice.
    """
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
