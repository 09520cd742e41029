# SPDX-License-Identifier: Apache-2.0
"""Where the user's benchmarks lie."""

from __future__ import annotations

import os
from pathlib import Path


VARIABLE = "MMSELF_BENCHMARKS"


class RootError(ValueError):
    """A folder of benchmarks that is not named, or not there."""


def data_root(folder: str | Path | None, key: str = "--data DIR") -> Path:
    """The folder of all benchmarks: the one that is given, or the environment's.

    Args:
        folder: what the user gave, None for nothing.
        key: what gives it, for errors.

    Raises:
        RootError: neither names a folder that is there.
    """
    named = given_root(folder)
    if named is None:
        raise RootError(
            f"{key}, or the environment variable {VARIABLE}, says where the benchmarks are: a folder with one folder "
            "a task."
        )
    if not named.is_dir():
        raise RootError(f"There is no folder {named} of benchmarks. {key} names it, or the variable {VARIABLE}.")
    return named


def given_root(folder: str | Path | None) -> Path | None:
    """The folder that is named, whether it is there or not; None if there is no name."""
    named = folder or os.environ.get(VARIABLE)
    return Path(named) if named else None
