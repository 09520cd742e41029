# SPDX-License-Identifier: Apache-2.0
"""How far a run is: its steps, the one at work, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from ..files import FileError, read_json
from .child import failure, last_start, log_tail, running
from .rows import badge
from .style import block
from .terms import read_log


State = Literal["none", "starting", "running", "stopped", "failed", "finished"]
StepState = Literal["done", "working", "interrupted", "waiting"]
Texts = Mapping[str, str]

_MOST_JOURNAL = 256 * 2**20  # bytes of journals that batches are counted in
_COUNTED = 2**20


@dataclass(frozen=True)
class StepView:
    """A step of a run.

    Attributes:
        name: `iter1/train` ...
        state: what has become of it.
        seconds: that it took.
        figures: what it counted.
    """

    name: str
    state: StepState
    seconds: float | None = None
    figures: Mapping[str, Any] | None = None

    @property
    def round(self) -> str:
        """`iter1`."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Inner:
    """How far the step at work is.

    Attributes:
        share: from 0 to 1.
        text: what of what.
    """

    share: float
    text: str


@dataclass(frozen=True)
class Progress:
    """A run at one moment.

    Attributes:
        folder: of the run.
        state: `none` if there is no run, `starting` before its first step.
        steps: all of them, in order.
        inner: of the step at work.
        error: that the last start ended with.
        pid: of the process at work.
    """

    folder: Path
    state: State
    steps: Sequence[StepView] = ()
    inner: Inner | None = None
    error: str | None = None
    pid: int | None = None

    @property
    def done(self) -> int:
        """Number of finished steps."""
        return sum(step.state == "done" for step in self.steps)

    @property
    def current(self) -> str | None:
        """The step that is at work or was interrupted."""
        return next((step.name for step in self.steps if step.state in ("working", "interrupted")), None)


def read_progress(folder: Path) -> Progress:
    """What a run's folder says about it; damaged files count as missing."""
    process = running(folder)
    pid = None if process is None else process.pid
    settings = _json(folder / "run.json")
    if settings is None:
        if process is not None:
            return Progress(folder, "starting", pid=pid)
        error = failure(folder)
        return Progress(folder, "none" if error is None else "failed", error=error)
    manifest = _json(folder / "manifest.json") or {}
    records, planned = manifest.get("steps"), manifest.get("planned")
    records = records if isinstance(records, dict) else {}
    current = (_json(folder / "current.json") or {}).get("step")
    current = current if isinstance(current, str) else None
    names = [str(name) for name in planned] if isinstance(planned, list) else list(records)
    if current is not None and current not in names:
        names.append(current)
    steps = [_step(name, records.get(name), current, process is not None) for name in names]
    if process is not None:
        state: State = "running" if current is not None else "starting"
        return Progress(folder, state, steps, _inner(folder, current), None, pid)
    if steps and all(step.state == "done" for step in steps):
        return Progress(folder, "finished", steps)
    error = failure(folder)
    return Progress(folder, "stopped" if error is None else "failed", steps, _inner(folder, current), error)


def progress_html(progress: Progress, texts: Texts) -> str:
    """A run's steps, round by round.

    Args:
        progress: of the run.
        texts: `none`, `starting`, ... and other words in the language of the page.
    """
    kinds = {"running": "work", "starting": "work", "finished": "good", "failed": "bad"}
    head = [badge(texts[progress.state], kinds.get(progress.state, "none"))]
    if progress.steps:
        head.append(f"<span>{progress.done} / {len(progress.steps)}</span>")
    if progress.current:
        head.append(f"<b>{escape(progress.current)}</b>")
    if progress.inner is not None:
        head.append(f'<span class="mmself-soft">{escape(progress.inner.text)}</span>')
    where = f'<span class="mmself-soft">{escape(str(progress.folder))}</span>' if progress.state != "none" else ""
    parts = [f'<div class="mmself-state">{"".join(head)}{where}</div>']
    if progress.state in ("running", "starting") and progress.steps:
        inner = progress.inner.share if progress.inner is not None else 0.0
        share = (progress.done + min(inner, 1.0)) / len(progress.steps)
        parts.append(f'<div class="mmself-bar"><div style="width: {100 * share:.1f}%"></div></div>')
    if progress.error:
        parts.append(f"<pre>{escape(progress.error)}</pre>")
    rounds: dict[str, list[StepView]] = {}
    for step in progress.steps:
        rounds.setdefault(step.round, []).append(step)
    for name, steps in rounds.items():
        chips = "".join(_chip(step) for step in steps)
        parts.append(
            f'<div class="mmself-round"><div class="who">{escape(name)}</div><div class="steps">{chips}</div></div>'
        )
    return block("".join(parts))


def log_html(folder: Path) -> str:
    """What the last start said."""
    child, text = last_start(folder), log_tail(folder)
    if not text:
        return ""
    since = "" if child is None else f'<div class="mmself-soft">{escape(child.since)}</div>'
    return block(f"{since}<pre>{escape(text)}</pre>")


def _chip(step: StepView) -> str:
    kind = {"done": "good", "working": "work", "interrupted": "bad", "waiting": "none"}[step.state]
    name = step.name.partition("/")[2] or step.name
    took = "" if step.seconds is None else f" · {_duration(step.seconds)}"
    figures = ", ".join(f"{key} {_figure(value)}" for key, value in (step.figures or {}).items())
    label, title = escape(f"{name}{took}"), escape(figures or step.name)
    return f'<span class="mmself-badge {kind}" title="{title}">{label}</span>'


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:80]


def _step(name: str, record: Any, current: str | None, alive: bool) -> StepView:
    if name == current:
        return StepView(name, "working" if alive else "interrupted")
    if not isinstance(record, Mapping):
        return StepView(name, "waiting")
    seconds, figures = record.get("seconds"), record.get("figures")
    return StepView(
        name,
        "done",
        float(seconds) if isinstance(seconds, (int, float)) else None,
        figures if isinstance(figures, Mapping) else None,
    )


def _inner(folder: Path, current: str | None) -> Inner | None:
    if current is None:
        return None
    number, _, purpose = current.partition("/")
    if not _is_round(number) or "/" in purpose:
        return None
    if purpose == "train":
        entries = read_log(folder / number / "model" / "trainer_log.jsonl")
        last = entries[-1] if entries else {}
        step, total = last.get("current_steps"), last.get("total_steps")
        if not isinstance(step, int) or not isinstance(total, int) or total <= 0:
            return None
        loss = f", loss {last['loss']:.3f}" if isinstance(last.get("loss"), float) else ""
        return Inner(step / total, f"{step} / {total}{loss}")
    out = folder / number / f"{purpose}.jsonl"
    plan = _json(out.with_name(f"{out.name}.manifest.json"))
    batches = len(plan["batches"]) if plan is not None and isinstance(plan.get("batches"), list) else 0
    if not batches:
        return None
    done = sum(_lines(path) for path in out.parent.glob(f"{purpose}.jsonl.journal-*.jsonl"))
    return Inner(done / batches, f"{min(done, batches)} / {batches}")


def _is_round(name: str) -> bool:
    return name.startswith("iter") and name[4:].isdigit()


def _lines(path: Path) -> int:
    try:
        if path.stat().st_size > _MOST_JOURNAL:
            return 0
        with open(path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_COUNTED), b""))
    except OSError:
        return 0


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except (FileError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
