# SPDX-License-Identifier: Apache-2.0
"""The scaling curve of test-time selection as table, plot, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from .answers import percent, span, table, tokens
from .charts import Series, line_chart, save
from .select import Point


_LABELS = {
    "test@1": "Test@1 (greedy)",
    "vote": "majority vote",
    "select": "self-select",
    "select-vote": "vote over selections",
    "oracle": "oracle",
}


def write_curve(points: Sequence[Point], out: Path, facts: Mapping[str, Any]) -> str:
    """Writes `scaling.{csv,json,png,svg}` and, where tokens are known, `cost.{png,svg}`; returns the text table.

    Args:
        points: what was measured.
        out: folder.
        facts: what the JSON file tells beside the points: model, files, parameters.
    """
    write_text(out / "scaling.csv", _csv(points))
    write_json(out / "scaling.json", {**facts, "points": [point.to_dict() for point in points]})
    save(line_chart(_over_candidates(points), "candidates", "accuracy, %"), out / "scaling")
    cost = _over_tokens(points)
    if cost:
        save(line_chart(cost, "generated tokens for a question", "accuracy, %"), out / "cost")
    return curve_table(points)


def curve_table(points: Sequence[Point]) -> str:
    """All points as text, with what they hold for."""
    header = ["", "N", "accuracy %", "95 %", "unparsed", "gain 95 %", "outside %", "dropped", "prompt", "generated"]
    rows = []
    for point in points:
        rate, gain = point.out_of_candidates, point.gain
        rows.append(
            [
                point.method,
                str(point.n),
                percent(point.score.accuracy),
                span(point.score.interval),
                str(point.score.unparsed),
                f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
                "" if rate is None else percent(rate.share),
                str(point.dropped) if point.method.startswith("select") else "",
                tokens(point.cost.prompt),
                tokens(point.cost.generated),
            ]
        )
    score = points[0].score
    return "\n".join(
        [
            table(header, rows),
            "",
            f"n = {score.n}, seed {score.seed}, verifier {score.profile} v{score.version}.",
            "Unparsed answers count as wrong.",
            "Accuracy: Wilson interval. Gain over Test@1 in points: paired bootstrap over questions.",
            "outside: selections that no candidate had; dropped: candidates left out of prompts that were too long;",
            "prompt, generated: tokens for a question, the candidates' included.",
        ]
    )


def _over_candidates(points: Sequence[Point]) -> list[Series]:
    sizes = sorted({point.n for point in points})
    lines = []
    for method, found in _by_method(points).items():
        # The greedy answer is a level to compare with at every N.
        at = [(float(n), found[0]) for n in sizes] if method == "test@1" else [(float(p.n), p) for p in found]
        lines.append(_series(method, at))
    return lines


def _over_tokens(points: Sequence[Point]) -> list[Series]:
    known = [point for point in points if point.cost.generated is not None]
    return [
        _series(method, [(point.cost.generated or 0.0, point) for point in found])
        for method, found in _by_method(known).items()
    ]


def _by_method(points: Sequence[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {method: [] for method in _LABELS}
    for point in points:
        groups[point.method].append(point)
    return {method: found for method, found in groups.items() if found}


def _series(method: str, at: Sequence[tuple[float, Point]]) -> Series:
    scores = [point.score for _, point in at]
    return Series(
        _LABELS[method],
        tuple(x for x, _ in at),
        tuple(100 * score.accuracy for score in scores),
        tuple(100 * score.interval.low for score in scores),
        tuple(100 * score.interval.high for score in scores),
    )


def _csv(points: Sequence[Point]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = ["method", "candidates", "accuracy", "low", "high", "gain_low", "gain_high", "n", "unparsed", "seed"]
    writer.writerow([*columns, "verifier", "out_of_candidates", "dropped", "prompt_tokens", "generated_tokens"])
    for point in points:
        score, rate = point.score, point.out_of_candidates
        line = [point.method, point.n, score.accuracy, score.interval.low, score.interval.high]
        line += [point.gain.low, point.gain.high, score.n, score.unparsed, score.seed]
        line += [f"{score.profile} v{score.version}", "" if rate is None else rate.share, point.dropped]
        writer.writerow([*line, point.cost.prompt, point.cost.generated])
    return buffer.getvalue()
