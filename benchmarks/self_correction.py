# SPDX-License-Identifier: Apache-2.0
"""Measures on the toy world what each round of Sherlock gains, direct and corrected, with the paper's ablations.

A weak model that answers in tagged sections is trained once (`mmself toy reasoner`): all seeds start from it, as all
users of a method start from one model. For each seed a world is drawn and its training questions are annotated
(`mmself toy data`, `responses`). Each variant is then a run of `mmself loop` on `examples/sherlock/toy.yaml` with some
values changed; variants of a seed share the rounds before the first that they change. What was finished before is
kept: more seeds and variants can be added, and the table has all of them. Accuracy is greedy, on held-out questions
that nothing was tuned on; gains and flips are paired over these questions. A JSON with all of it and a table go to
`benchmarks/results`.

    python benchmarks/self_correction.py [--seeds 0 1 2] [--variants sherlock ...] [--jobs 2] [--work DIR] [--table]
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

from llamafactory_mmself.files import read_json
from llamafactory_mmself.loop.sherlock import OFFLINE, SFT, round_name


def _both(name: str, value: Any) -> dict[str, Any]:
    return {f"rounds.{phase}.{name}": value for phase in ("offline", "online")}


# What variants change concerns the rounds from offline on.
VARIANTS = (
    Variant("sherlock", "Sherlock", "sherlock"),
    Variant("no-dpo", "no DPO term", "sherlock", _both("no_dpo_term", True)),
    Variant("no-correction", "no correction term", "sherlock", _both("no_correction_term", True)),
    Variant("static", "static weight", "sherlock", _both("static_weight", 1.0)),
    Variant("one-cut", "one cut: whole responses", "sherlock", {"build.cuts": [1]}),
)
REPORT = Report(
    "self_correction",
    "Self-correction on the toy world",
    "Corrected: after the last correction. Flips: corrections that turned wrong answers right, and right ones wrong, "
    "over all seeds. Unparsed: direct / corrected.",
    (
        "variant",
        "round",
        "seeds",
        "direct",
        "corrected",
        "unparsed",
        "corrected − direct",
        "flips",
        "direct − SFT",
        "corrected − SFT",
        "corrected − round before",
        "direct − whole method",
        "corrected − whole method",
    ),
    left=3,
)


def main() -> None:
    parser = options(__doc__, VARIANTS, "benchmark-sherlock")
    parser.add_argument("--base_model", type=Path, help="start from this model instead of a weak start")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change values of all runs")
    given = parser.parse_args()
    variants = [variant for variant in VARIANTS if variant.name in given.variants]
    base = given.base_model.resolve() if given.base_model else given.work.resolve() / "base" / "start"
    if not given.table and not given.base_model:
        Seed(0, base.parent).start("reasoner")

    def run(seed: Seed) -> None:
        data = seed.world(train=given.train, test=given.test)
        annotated = data / "annotated.json"
        if not annotated.exists():
            seed.mmself("data", "toy", "responses", "--data", data)
        changes = {"base_model": base, "train_data": annotated, "test_data": data / "test.json"}
        for variant in variants:
            seed.run(variant, changes, given.set, shared=OFFLINE)

    for_each_seed(given, run)
    whole = finished(given.work, VARIANTS[0])
    rows = [row for variant in VARIANTS for row in collect(finished(given.work, variant), variant, whole)]
    REPORT.write(given.out, rows, cells)


def collect(runs: Mapping[int, Path], variant: Variant, whole: Mapping[int, Path]) -> list[dict[str, Any]]:
    """Accuracies, gains and flips of a variant's rounds; `whole` are the whole method's runs, by seed."""
    if not runs:
        return []
    folders = list(runs.values())
    numbers = range(0 if variant.main else OFFLINE, last_round(folders[0]) + 1)
    facts = {
        "variant": asdict(variant),
        "seeds": list(runs),
        "verifier": read_json(folders[0] / "run.json")["verifier"],
    }
    others = [] if variant.main or runs.keys() - whole.keys() else [whole[seed] for seed in runs]
    return [{**facts, **_round(folders, number, others)} for number in numbers]


def _round(runs: Sequence[Path], number: int, whole: Sequence[Path]) -> dict[str, Any]:
    """What a round reaches: direct and corrected, against SFT, the round before, itself uncorrected, and `whole`."""
    last = f"test_correct{read_json(runs[0] / 'run.json')['evaluate']['turns']}"
    direct = [outcomes(run, number) for run in runs]
    corrected = [outcomes(run, number, last) for run in runs]
    gains = {"corrected over direct": gain(direct, corrected)}
    for name, other in (("over SFT", SFT), ("over the round before", number - 1)):
        if number > SFT:
            gains[f"direct {name}"] = gain([outcomes(run, other) for run in runs], direct)
            gains[f"corrected {name}"] = gain([outcomes(run, other, last) for run in runs], corrected)
    if whole:
        gains["direct over the whole method"] = gain([outcomes(run, number) for run in whole], direct)
        gains["corrected over the whole method"] = gain([outcomes(run, number, last) for run in whole], corrected)
    return {
        "round": number,
        "name": round_name(number),
        "questions": len(direct[0]),
        "direct": [mean(values) for values in direct],
        "corrected": [mean(values) for values in corrected],
        "unparsed": [[unparsed(run, number), unparsed(run, number, last)] for run in runs],
        "wrong_to_right": [_flips(*pair, to=True) for pair in zip(direct, corrected, strict=True)],
        "right_to_wrong": [_flips(*pair, to=False) for pair in zip(direct, corrected, strict=True)],
        "gains": gains,
        "rows": [_rows(run, number) for run in runs],
    }


def _flips(before: Sequence[bool], after: Sequence[bool], *, to: bool) -> int:
    return sum(late == to and early != to for early, late in zip(before, after, strict=True))


def _rows(run: Path, number: int) -> int:
    file = run / f"iter{number}" / "train" / "self_training.json"
    return len(read_json(file)) if file.exists() else 0


def cells(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row."""
    gains = row["gains"]
    return [
        row["variant"]["title"],
        row["name"],
        ", ".join(map(str, row["seeds"])),
        percent(row["direct"]),
        percent(row["corrected"]),
        " / ".join(str(sum(counts)) for counts in zip(*row["unparsed"], strict=True)),
        signed(gains["corrected over direct"]),
        f"+{sum(row['wrong_to_right'])} / −{sum(row['right_to_wrong'])}",
        signed(gains.get("direct over SFT")),
        signed(gains.get("corrected over SFT")),
        signed(gains.get("corrected over the round before")),
        signed(gains.get("direct over the whole method")),
        signed(gains.get("corrected over the whole method")),
    ]


if __name__ == "__main__":
    main()
