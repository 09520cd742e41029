# SPDX-License-Identifier: Apache-2.0
"""Runs that a web UI knows: those that it started, and those below its folder."""

from __future__ import annotations

from pathlib import Path

from ..files import FileError, read_json, write_json
from .child import running


KNOWN = "mmself_runs.json"
_MOST = 50


def remember(cache: Path, folder: Path) -> None:
    """Notes a run as the newest one."""
    folder = folder.resolve()
    write_json(cache / KNOWN, [str(folder), *(path for path in _noted(cache) if path != str(folder))][:_MOST])


def known_runs(cache: Path, place: Path) -> list[str]:
    """Folders of runs, those started from a web UI first, the newest at the top; below `place` they are relative.

    Args:
        cache: folder of LlamaBoard's own files.
        place: where the web UI was started; runs are also looked for in its folder `runs`.
    """
    noted = [Path(path) for path in _noted(cache)]
    found = sorted(path.parent for path in (place / "runs").glob("*/run.json"))
    folders = [path for path in noted if path.is_dir()] + [path.resolve() for path in found]
    return [_short(path, place) for path in dict.fromkeys(folders)]


def run_to_show(runs: list[str]) -> str | None:
    """The run that a newly opened page shows: one that is at work, or the newest."""
    working = (run for run in runs if running(Path(run)) is not None)
    return next(working, runs[0] if runs else None)


def _short(path: Path, place: Path) -> str:
    place = place.resolve()
    return path.relative_to(place).as_posix() if path.is_relative_to(place) else str(path)


def _noted(cache: Path) -> list[str]:
    try:
        values = read_json(cache / KNOWN)
    except FileError:
        return []
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
