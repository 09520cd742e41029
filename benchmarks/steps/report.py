# SPDX-License-Identifier: Apache-2.0
"""From runs to figures: ratios with intervals, the bar, a table and a plot."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


WARM_UP = 1
#: (method, slower contender) -> how many times faster the best of our engines has to be; from the project's bar.
BAR = {
    ("dpo", "naive"): 2.0,
    ("ovip", "naive"): 1.8,
    ("group", "naive"): 4.0,
    ("sherlock", "naive"): 4.0,
    ("dpo", "llamafactory"): 2.5,
}
MEMORY_BAR = 0.5  # of the memory of LLaMA-Factory's stock `dpo`
SLOWEST = 1.05  # `auto` against `dense`
OURS = ("auto", "packed", "dense")
LOSS_TOLERANCE = {"float32": 2e-3, "bfloat16": 5e-2}


def ratio(slow: Sequence[float], fast: Sequence[float], draws: int = 5000) -> dict[str, float]:
    """Median of slow / fast over rounds, with the 95 % interval of a bootstrap over rounds.

    Args:
        slow: seconds of each round.
        fast: seconds of the same rounds.
        draws: bootstrap samples.
    """
    pairs = [one / other for one, other in zip(slow, fast, strict=True)]
    rng = random.Random(0)
    drawn = sorted(statistics.median(rng.choices(pairs, k=len(pairs))) for _ in range(draws))
    ends = {"low": drawn[round(0.025 * (draws - 1))], "high": drawn[round(0.975 * (draws - 1))]}
    return {name: round(value, 3) for name, value in {"median": statistics.median(pairs), **ends}.items()}


def summarise(row: dict[str, Any]) -> dict[str, Any]:
    """Adds to a row what follows from its runs: medians, ratios, memory above the loaded model, checks.

    Args:
        row: `setting`, `loads`, `dtype` and `runs`: contender -> seconds, losses, loaded, peak, failure.
    """
    runs: dict[str, Any] = {name: run for name, run in row["runs"].items() if not run["failure"]}
    timed = {name: run["seconds"][WARM_UP:] for name, run in runs.items()}
    tokens = row["loads"]
    return {
        **row,
        "limit": round(tokens["dense"]["tokens"] / tokens["packed"]["tokens"], 3),
        "median_seconds": {name: round(statistics.median(seconds), 4) for name, seconds in timed.items()},
        "above_loaded_mib": {name: round((run["peak"] - run["loaded"]) / 2**20, 1) for name, run in runs.items()},
        "ratios": {
            f"{slow}/{fast}": ratio(timed[slow], timed[fast])
            for slow in timed
            for fast in timed
            if slow != fast and fast in OURS
        },
        "checks": _losses_agree(runs, LOSS_TOLERANCE[row["dtype"]]),
    }


def _losses_agree(runs: Mapping[str, Any], tolerance: float) -> list[dict[str, Any]]:
    """All contenders start from the same weights and see the same rows, so their losses have to be the same."""
    checks = []
    base = runs.get("naive") or next(iter(runs.values()), None)
    for name, run in runs.items():
        if base is not None and run is not base:
            apart = max(abs(one - other) for one, other in zip(base["losses"], run["losses"], strict=True))
            largest = max(1.0, *map(abs, base["losses"]))
            checks.append(_check(f"{name}: same losses", apart / largest, "<=", tolerance))
    return checks


def judge(row: Mapping[str, Any], with_bar: bool) -> list[dict[str, Any]]:
    """What the bar says about a summarised row; the figures of the bar itself only where `with_bar`."""
    method, ratios = row["setting"]["method"], row["ratios"]
    checks = [
        {"what": f"{name} runs", "value": run["failure"], "wanted": "no failure", "passed": False}
        for name, run in row["runs"].items()
        if run["failure"] and name != "packed"  # which is refused where it is impossible
    ]
    engine = next((name for name in OURS if name in row["median_seconds"]), None)
    if "auto/dense" in ratios:
        checks.append(_check("auto against dense, upper end", ratios["auto/dense"]["high"], "<=", SLOWEST))
    if not with_bar or engine is None:
        return checks
    for (what, slow), wanted in BAR.items():
        if what == method and f"{slow}/{engine}" in ratios:
            checks.append(_check(f"{slow} / {engine}", ratios[f"{slow}/{engine}"]["median"], ">=", wanted))
    memory = row["above_loaded_mib"]
    if method == "dpo" and "llamafactory" in memory:
        share = memory[engine] / memory["llamafactory"]
        checks.append(_check(f"memory of {engine} / llamafactory", share, "<=", MEMORY_BAR))
    return checks


def _check(what: str, value: float, sign: str, wanted: float) -> dict[str, Any]:
    passed = value <= wanted if sign == "<=" else value >= wanted
    return {"what": what, "value": round(value, 6), "wanted": f"{sign} {wanted:g}", "passed": passed}


def table(report: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    names = [name for name in report["contenders"] if any(name in row["runs"] for row in report["rows"])]
    others = [name for name in names if name not in OURS]
    lines = []
    for suite in dict.fromkeys(row["suite"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["suite"] == suite]
        ours = [name for name in OURS if name in names]
        head = ["setting", *(f"{name} s" for name in names)]
        head += [f"{name} / {ours[0]}" for name in others] if ours else []
        head += ["auto is"] if "auto" in names else []
        head += ["dense / packed", "limit"] if "packed" in names else ["limit"]
        head += [f"{name} MiB" for name in names] + [f"{name} of peak" for name in names if name != "auto"]
        lines += [f"**{suite}**", "", f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
        for row in rows:
            cells = [row["name"], *(_cell(row["median_seconds"].get(name), 2) for name in names)]
            cells += [_ratio_cell(row["ratios"].get(f"{name}/{ours[0]}")) for name in others if ours]
            cells += [_choice(row["runs"].get("auto"))] if "auto" in names else []
            cells += [_ratio_cell(row["ratios"].get("dense/packed"))] if "packed" in names else []
            cells.append(f"{row['limit']:.2f}")
            cells += [_cell(row["above_loaded_mib"].get(name), 0) for name in names]
            cells += [_share(row["utilisation"].get(name)) for name in names if name != "auto"]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    refused = {row["runs"].get("packed", {}).get("failure") for row in report["rows"]} - {None, ""}
    lines += [f"- packed: {failure}" for failure in sorted(refused)]
    missed = [(row, check) for row in report["rows"] for check in row["checks"] if not check["passed"]]
    lines += [f"- {row['name']}: {check['what']} {check['value']}, wanted {check['wanted']}" for row, check in missed]
    if not missed:
        lines.append("Every figure that has a bar reaches it.")
    return "\n".join(lines).rstrip() + "\n"


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _choice(run: Mapping[str, Any] | None) -> str:
    """What `auto` chose: the first word that it says about it."""
    return run["notes"][0].split()[1].rstrip(".") if run and run["notes"] else "–"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _ratio_cell(found: Mapping[str, float] | None) -> str:
    return "–" if found is None else f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def plot(report: Mapping[str, Any], target: Path) -> None:
    """How many times faster than the slowest contender each is, with the token-count limit of packing over dense."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    suites = list(dict.fromkeys(row["suite"] for row in report["rows"]))
    figure, axes = plt.subplots(
        len(suites), 1, figsize=(11, sum(1.2 + 0.5 * _count(report, suite) for suite in suites)), squeeze=False,
        gridspec_kw={"height_ratios": [1 + _count(report, suite) for suite in suites]}, layout="constrained",
    )  # fmt: skip
    for axis, suite in zip(axes[:, 0], suites, strict=True):
        rows = [row for row in report["rows"] if row["suite"] == suite and "dense" in row["median_seconds"]]
        names = [name for name in report["contenders"] if any(name in row["median_seconds"] for row in rows)]
        height = 0.8 / max(1, len(names))
        for place, name in enumerate(names):
            found = [(y, row) for y, row in enumerate(rows) if name in row["median_seconds"]]
            speed = [row["median_seconds"]["dense"] / row["median_seconds"][name] for _, row in found]
            axis.barh([y + place * height for y, _ in found], speed, height, label=name)
        middle = 0.4 - height / 2
        axis.plot([row["limit"] for row in rows], [y + middle for y in range(len(rows))], "k|", ms=14, label="limit")
        axis.set_yticks([y + middle for y in range(len(rows))], [row["name"] for row in rows], fontsize=8)
        axis.invert_yaxis()
        axis.axvline(1, color="grey", lw=0.8)
        axis.set_title(suite, loc="left")
        axis.set_xlabel("speed, dense = 1; the mark is what token counts allow")
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _count(report: Mapping[str, Any], suite: str) -> int:
    return sum(row["suite"] == suite for row in report["rows"])
