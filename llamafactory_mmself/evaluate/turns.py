# SPDX-License-Identifier: Apache-2.0
"""Self-correction as table, plots, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from .answers import percent, span, table, tokens
from .charts import Series, line_chart, save, stacked_bars
from .correct import Point


_LABELS = {"turn": "last response", "turn-vote": "vote over turns", "parallel-vote": "vote over parallel responses"}


def write_turns(points: Sequence[Point], out: Path, facts: Mapping[str, Any]) -> str:
    """Writes `correct.{csv,json,png,svg}`, `flips.{png,svg}` and, where tokens are known, `cost.{png,svg}`.

    Args:
        points: what was measured.
        out: folder.
        facts: what the JSON file tells beside the points: model, files, parameters.

    Returns:
        The text table.
    """
    write_text(out / "correct.csv", _csv(points))
    write_json(out / "correct.json", {**facts, "points": [point.to_dict() for point in points]})
    save(line_chart(_series(points, lambda point: float(point.turn)), "corrections", "accuracy, %"), out / "correct")
    single = [point for point in points if point.method == "turn" and point.turn]
    flips = {
        "wrong to right": [float(point.fixed.count) for point in single],
        "right to wrong": [float(point.broken.count) for point in single],
    }
    save(stacked_bars([f"after {point.turn}" for point in single], flips, "questions"), out / "flips")
    known = [point for point in points if point.cost.generated is not None]
    if known:
        cost = _series(known, lambda point: point.cost.generated or 0.0)
        save(line_chart(cost, "generated tokens for a question", "accuracy, %"), out / "cost")
    return turns_table(points)


def turns_table(points: Sequence[Point]) -> str:
    """All points as text, with what they hold for."""
    header = ["", "turn", "accuracy %", "95 %", "unparsed", "gain 95 %", "wrong→right", "right→wrong"]
    rows = []
    for point in points:
        gain = point.gain
        rows.append(
            [
                point.method,
                str(point.turn),
                percent(point.score.accuracy),
                span(point.score.interval),
                str(point.score.unparsed),
                f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
                str(point.fixed.count),
                str(point.broken.count),
                str(point.corrected),
                tokens(point.cost.prompt),
                tokens(point.cost.generated),
            ]
        )
    score = points[0].score
    return "\n".join(
        [
            table([*header, "corrected", "prompt", "generated"], rows),
            "",
            f"n = {score.n}, seed {score.seed}, verifier {score.profile} v{score.version}.",
            "Unparsed answers count as wrong.",
            "Accuracy: Wilson interval. Gain over the first response in points: paired bootstrap over questions.",
            "wrong→right, right→wrong: questions, against the same method before any correction;",
            "corrected: responses that this turn corrected, other chains had ended;",
            "prompt, generated: tokens for a question, all turns so far and the verifier's included.",
        ]
    )


def _series(points: Sequence[Point], place: Callable[[Point], float]) -> list[Series]:
    lines = []
    for method, label in _LABELS.items():
        found = [point for point in points if point.method == method]
        if found:
            lines.append(
                Series(
                    label,
                    tuple(place(point) for point in found),
                    tuple(100 * point.score.accuracy for point in found),
                    tuple(100 * point.score.interval.low for point in found),
                    tuple(100 * point.score.interval.high for point in found),
                )
            )
    return lines


def _csv(points: Sequence[Point]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [
        "method",
        "turn",
        "accuracy",
        "low",
        "high",
        "gain_low",
        "gain_high",
        "wrong_to_right",
        "right_to_wrong",
    ]
    writer.writerow([*columns, "n", "unparsed", "corrected", "seed", "verifier", "prompt_tokens", "generated_tokens"])
    for point in points:
        score = point.score
        line = [point.method, point.turn, score.accuracy, score.interval.low, score.interval.high]
        line += [point.gain.low, point.gain.high, point.fixed.count, point.broken.count]
        line += [score.n, score.unparsed, point.corrected, score.seed, f"{score.profile} v{score.version}"]
        writer.writerow([*line, point.cost.prompt, point.cost.generated])
    return buffer.getvalue()
