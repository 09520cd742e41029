# SPDX-License-Identifier: Apache-2.0
"""The files that OViP's runs leave behind, under their published names and fields, as valid JSON lines.

The first rank writes them when outcomes are delivered. Fields that are not published: `position`, `id`, `rule`, `how`
and `seed`. A resumed run adds no line that is there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ....files import append_jsonl, read_json, read_jsonl, write_json
from .clock import Span
from .entries import Entry, Outcome
from .journal import FOLDER as EXPERIENCE
from .journal import JOURNALS
from .prompts import OnlinePrompt


SAMPLES, PAIRS, TIMES, IMAGES = "online_sample_data.jsonl", "data.jsonl", "time_log.jsonl", "images"
NAMES = (SAMPLES, PAIRS, TIMES)
OWNER = "owner.json"  # beside the journals


def claim(folder: Path, output_dir: Path) -> str:
    """Makes a folder ready for a run that starts from nothing, and notes whose it is.

    What an earlier start of the same run has left, as its `output_dir` says, is removed. Anything else may belong to a
    run that is alive, or will be resumed.

    Args:
        folder: where samples and pictures of the run will be.
        output_dir: of the run.

    Returns:
        why the run cannot use the folder, or "".
    """
    journals = sorted((folder / EXPERIENCE).glob(JOURNALS))
    left = [*journals, *(path for name in NAMES if (path := folder / name).exists())]
    owner, own = folder / EXPERIENCE / OWNER, str(output_dir.resolve())
    known = read_json(owner).get("output_dir") if owner.exists() else str(folder.resolve())
    if left and known != own:
        return (
            f"`online_data_save_dir` holds what another run has sampled: {left[0]}. Name another folder; or "
            f"resume that run from its checkpoint; or, if nobody needs it, remove {EXPERIENCE} and {', '.join(NAMES)} "
            "there."
        )
    for path in left:
        path.unlink()
    write_json(owner, {"output_dir": own})
    return ""


class PublishedFiles:
    """Writes `online_sample_data.jsonl`, `data.jsonl` and `time_log.jsonl`.

    Args:
        folder: where they are; what is there is gone on with.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in NAMES:
            _mend(folder / name)
        self._positions = {row["position"] for row in _rows(folder / SAMPLES)}
        self._ids = {row["id"] for row in _rows(folder / PAIRS)}

    def write(self, outcomes: Sequence[tuple[Outcome, OnlinePrompt]], spans: Iterable[Span]) -> None:
        """Adds lines for outcomes and for the times of phases."""
        samples, pairs = [], []
        for outcome, prompt in outcomes:
            if outcome.position not in self._positions:
                self._positions.add(outcome.position)
                samples.append(sample_row(outcome, prompt))
            for entry in outcome.entries:
                if entry.negative is not None and entry.id not in self._ids:
                    self._ids.add(entry.id)
                    pairs.append(pair_row(entry, prompt))
        for name, rows in ((SAMPLES, samples), (PAIRS, pairs), (TIMES, [asdict(span) for span in spans])):
            if rows:
                append_jsonl(self._folder / name, rows)


def sample_row(outcome: Outcome, prompt: OnlinePrompt) -> dict[str, Any]:
    """A line of online_sample_data.jsonl."""
    common = {"prompt": prompt.question, "ground_truth": prompt.row.chosen}
    return {
        "sample": [
            {"score": score, "response": text, **common}
            for score, text in zip(outcome.scores, outcome.texts, strict=True)
        ],
        "num_sampled": len(outcome.texts),
        "steps": outcome.step,
        "node_rank": outcome.rank,
        "position": outcome.position,
    }


def pair_row(entry: Entry, prompt: OnlinePrompt) -> dict[str, Any]:
    """A line of data.jsonl: a painted picture with its pair. Of a group it is the best and the worst response."""
    if entry.best is None:
        chosen, rejected = entry.answers
    else:
        assert entry.against is not None
        chosen, rejected = entry.answers[entry.best], entry.against
    return {
        "image_instruction": entry.description,
        "image": entry.negative,
        "step": entry.step,
        "prompt": prompt.question,
        "chosen_response": chosen.text,
        "rejected_response": rejected.text,
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "id": entry.id,
        "how": entry.how,
        "rule": entry.rule,
        "seed": entry.seed,
    }


def _mend(path: Path) -> None:
    """Cuts off the end of a file that a kill has left in the middle of a line."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n") and content:
        with open(path, "r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    return read_jsonl(path) if path.exists() else ()
