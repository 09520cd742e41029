# SPDX-License-Identifier: Apache-2.0
"""Measures on the toy world what R3V and STL gain over their starting model, with baselines and ablations.

For each seed a world is drawn and a weak model is started (`mmself toy data`, `mmself toy start`). Each variant is
then a run of `mmself loop` on `examples/r3v/toy.yaml` or `examples/stl/toy.yaml` with some values changed; variants of
a seed share the samples of round 0. What was finished before is kept: more seeds and variants can be added, and the
table has all of them. Accuracy is greedy, on held-out questions that nothing was tuned on, and gains are paired over
these questions. A JSON with all of it and a table go to `benchmarks/results`.

    python benchmarks/self_training.py [--seeds 0 1 2] [--variants r3v star ...] [--jobs 2] [--work DIR] [--table]
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toy_runs import (
    Report,
    Seed,
    Variant,
    finished,
    for_each_seed,
    gain,
    last_round,
    mean,
    options,
    outcomes,
    percent,
    signed,
    unparsed,
)

from llamafactory_mmself.data.questions import read_questions
from llamafactory_mmself.evaluate.answers import selections_of, verdicts_of
from llamafactory_mmself.files import read_json
from llamafactory_mmself.loop.rounds import read_checked


VARIANTS = (
    Variant("r3v", "R3V", "r3v"),
    Variant("star", "STaR (no refine, no select)", "r3v", {"build.refine": False, "build.select": False}),
    Variant("no-refine", "R3V without self-refine", "r3v", {"build.refine": False}),
    Variant("no-select", "R3V without self-select", "r3v", {"build.select": False}),
    Variant("single", "R3V, a single round", "r3v", {"iterations": 1}),
    Variant("newest", "R3V, newest samples only", "r3v", {"build.pool": "newest"}),
    Variant("continue", "R3V, each round continues", "r3v", {"start": "continue"}),
    Variant("letters", "direct answers only", "r3v", {"build.letters_only": True, "iterations": 1}),
    Variant("stl", "STL", "stl"),
    Variant("stl-no-caption", "STL without captions", "stl", {"build.caption": False}),
    Variant("stl-no-negatives", "STL without negatives", "stl", {"build.negatives": False}),
    Variant("stl-unchecked", "STL without quality checks", "stl", {"build.checks": []}),
)
REPORT = Report(
    "self_training",
    "Self-training on the toy world",
    "Gain: greedy after the last round minus greedy before the first. Ablation: minus the whole method on the same "
    "seeds. Selection: among three samples where they differ, minus the same model's greedy answers.",
    ("variant", "seeds", "rounds", "start", "greedy", "unparsed", "gain", "ablation", "select@3", "select@3 − greedy"),
    left=2,
)


def main() -> None:
    given = options(__doc__, VARIANTS, "benchmark").parse_args()
    variants = [variant for variant in VARIANTS if variant.name in given.variants]

    def run(seed: Seed) -> None:
        data, start = seed.world(train=given.train, test=given.test), seed.start()
        changes = {"base_model": start, "train_data": data / "train.json", "test_data": data / "test.json"}
        for variant in variants:
            samples = {} if variant.main else {"evaluate.samples": 0}  # greedy accuracy is enough there
            seed.run(variant, {**changes, **samples}, shared=1)

    for_each_seed(given, run)
    rows = [row for variant in VARIANTS if (row := collect(finished(given.work, variant), variant))]
    REPORT.write(given.out, rows, cells)


def collect(runs: Mapping[int, Path], variant: Variant) -> dict[str, Any] | None:
    """Accuracies, gains over the start and self-selection of a variant; None without finished runs."""
    if not runs:
        return None
    folders = list(runs.values())
    last = [last_round(run) for run in folders]
    before = [outcomes(run.parent / variant.recipe, 0) for run in folders]
    after = _last_greedy(folders)
    return {
        "variant": asdict(variant),
        "seeds": list(runs),
        "rounds": last[0],
        "questions": len(before[0]),
        "start": [mean(values) for values in before],
        "accuracy": [mean(values) for values in after],
        "unparsed": [unparsed(run, number) for run, number in zip(folders, last, strict=True)],
        "gain": gain(before, after),
        "over_main": None
        if variant.main
        else gain(_last_greedy([run.parent / variant.recipe for run in folders]), after),
        "selection": _selection(folders, last, after),
        "verifier": read_json(folders[0] / "run.json")["verifier"],
    }


def _last_greedy(runs: Sequence[Path]) -> list[list[bool]]:
    return [outcomes(run, last_round(run)) for run in runs]


def _selection(runs: Sequence[Path], last: Sequence[int], greedy: list[list[bool]]) -> dict[str, Any] | None:
    """Accuracy of self-selection among the samples, and what it gains over the same model's greedy answers."""
    folders = [run / f"iter{number}" for run, number in zip(runs, last, strict=True)]
    if not all((folder / "checked_test_select.jsonl").exists() for folder in folders):
        return None
    selected = [_selected(folder) for folder in folders]
    return {"accuracy": [mean(values) for values in selected], "gain": gain(greedy, selected)}


def _selected(folder: Path) -> list[bool]:
    """Right or wrong for each held-out question; what candidates agree on is not selected, it is their answer."""
    questions = read_questions(Path(read_json(folder.parent / "run.json")["test_data"]))
    candidates = verdicts_of(questions, read_checked(folder / "checked_test_samples.jsonl"), "samples")
    chosen = selections_of(questions, read_checked(folder / "checked_test_select.jsonl"), candidates)
    return [chosen[question.id][0].correct for question in questions]


def cells(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row."""
    chosen = row["selection"]
    return [
        row["variant"]["title"],
        ", ".join(map(str, row["seeds"])),
        str(row["rounds"]),
        percent(row["start"]),
        percent(row["accuracy"]),
        str(sum(row["unparsed"])),
        signed(row["gain"]),
        signed(row["over_main"]),
        percent(chosen["accuracy"]) if chosen else "–",
        signed(chosen and chosen["gain"]),
    ]


if __name__ == "__main__":
    main()
