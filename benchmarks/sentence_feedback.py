# SPDX-License-Identifier: Apache-2.0
"""Measures on the toy world what ARES's rounds gain in sentence scores and accuracy, and what each of them does alone.

For each seed a world is drawn and a weak model is started (`mmself toy data`, `start`). Each variant is then a run of
`mmself loop` on `examples/ares/toy.yaml` with other rounds; variants share what they have in common. The world's
exact judge is the teacher. Sentence scores and accuracy are those of greedy rationales of held-out questions that
nothing was tuned on; gains are paired over these questions. A JSON with all of it and a table go to
`benchmarks/results`.

    python benchmarks/sentence_feedback.py [--seeds 0 1 2] [--variants ares ...] [--jobs 2] [--work DIR] [--table]
        [--set KEY=VALUE ...]
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

from llamafactory_mmself.files import read_json, read_jsonl


VARIANTS = (
    Variant("ares", "ARES", "ares", {"build.phases": ["rl", "sft"], "iterations": 2}),
    Variant("rl-alone", "RL alone", "ares", {"build.phases": ["rl", "rl"], "iterations": 2}),
    Variant("sft-alone", "corrections alone", "ares", {"build.phases": ["sft"], "iterations": 1}),
)
NAMES = {"rl": "RL", "sft": "corrections"}
REPORT = Report(
    "sentence_feedback",
    "Sentence-level feedback on the toy world",
    "Score: the mean of the exact judge's scores of a rationale's sentences, its announced answer among them.",
    (
        "variant",
        "round",
        "seeds",
        "score",
        "accuracy",
        "unparsed",
        "score − start",
        "accuracy − start",
        "score − round before",
        "accuracy − round before",
    ),
    left=3,
)


def main() -> None:
    parser = options(__doc__, VARIANTS, "benchmark-ares")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change values of all runs")
    given = parser.parse_args()
    variants = [variant for variant in VARIANTS if variant.name in given.variants]

    def run(seed: Seed) -> None:
        data = seed.world(train=given.train, test=given.test)
        changes = {"base_model": seed.start(), "train_data": data / "train.json", "test_data": data / "test.json"}
        for variant in variants:
            shared = 1 if variant.changes["build.phases"][0] == "sft" else 2  # up to the first round that differs
            seed.run(variant, changes, given.set, shared=shared)

    for_each_seed(given, run)
    rows = [row for variant in VARIANTS for row in collect(finished(given.work, variant), variant)]
    REPORT.write(given.out, rows, cells)


def collect(runs: Mapping[int, Path], variant: Variant) -> list[dict[str, Any]]:
    """Scores and accuracies of a variant's rounds; the start stands in the main variant alone."""
    if not runs:
        return []
    folders = list(runs.values())
    facts = {
        "variant": asdict(variant),
        "seeds": list(runs),
        "verifier": read_json(folders[0] / "run.json")["verifier"],
    }
    numbers = range(0 if variant.main else 1, last_round(folders[0]) + 1)
    return [{**facts, **_round(folders, number, variant)} for number in numbers]


def _round(runs: Sequence[Path], number: int, variant: Variant) -> dict[str, Any]:
    found = {
        "score": [_scores(run, number) for run in runs],
        "accuracy": [list(map(float, outcomes(run, number))) for run in runs],
    }
    gains = {}
    for name, other in (("start", 0), ("the round before", number - 1)):
        if number > 0:
            gains[f"score over {name}"] = gain([_scores(run, other) for run in runs], found["score"])
            gains[f"accuracy over {name}"] = gain([outcomes(run, other) for run in runs], found["accuracy"])
    phases = variant.changes["build.phases"]
    return {
        "round": number,
        "name": NAMES[phases[number - 1]] if number else "start",
        "questions": len(found["score"][0]),
        "score": [mean(values) for values in found["score"]],
        "accuracy": [mean(values) for values in found["accuracy"]],
        "unparsed": [unparsed(run, number) for run in runs],
        "gains": gains,
    }


def _scores(run: Path, number: int) -> list[float]:
    """The mean score of each held-out rationale, in the order of the questions; one without a sentence has 0."""
    rows = read_jsonl(run / f"iter{number}" / "test_sentences.jsonl")
    return [mean(row["scores"]) if row["scores"] else 0.0 for row in rows]


def cells(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row."""
    gains = row["gains"]
    return [
        row["variant"]["title"],
        row["name"],
        ", ".join(map(str, row["seeds"])),
        percent(row["score"]),
        percent(row["accuracy"]),
        str(sum(row["unparsed"])),
        *(signed(gains.get(f"{what} over start")) for what in ("score", "accuracy")),
        *(signed(gains.get(f"{what} over the round before")) for what in ("score", "accuracy")),
    ]


if __name__ == "__main__":
    main()
