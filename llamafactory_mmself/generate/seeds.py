# SPDX-License-Identifier: Apache-2.0
"""Seeds that are made from others: one way for batches, requests, steps and orders."""

from __future__ import annotations

import hashlib


def seed_digest(seed: int, *names: object) -> bytes:
    """32 bytes that look random and depend on a seed and on the names of what they are for."""
    return hashlib.sha256("\0".join(map(str, (seed, *names))).encode()).digest()


def derived_seed(seed: int, *names: object) -> int:
    """A seed from 0 to 2**31 - 1, made from another one and the names of what it is for.

    Neighbouring seeds give unrelated ones, and adding a use changes no other's: samples of different requests, batches
    and rounds share no dice.
    """
    return int.from_bytes(seed_digest(seed, *names)[:4], "big") >> 1
