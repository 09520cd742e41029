# SPDX-License-Identifier: Apache-2.0
"""Measures on the toy world what OViP, online and offline, and GRPO do to a captioner that names what is not there.

For each seed a world is drawn, a weak captioner is started (`mmself toy data`, `captioner`), and its own pairs are
built once (`mmself build ovip`). Each variant is then a run of stage `mdpo` on `examples/mdpo/online_orm_toy.yaml` or
`grpo_toy.yaml` with some values changed: with as many updates of as many pairs, from the same prompts. The world's
exact judge, describer and painter are the services. Figures are those of greedy captions of held-out scenes that
nothing was tuned on; gains are paired over these. What was finished before is kept. A JSON with all of it and a table
go to `benchmarks/results`.

    python benchmarks/hallucination.py [--seeds 0 1 2] [--variants online ...] [--jobs 2] [--work DIR] [--table]
        [--set KEY=VALUE ...]
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from toy_runs import ROOT, Report, Seed, Variant, for_each_seed, options

from llamafactory_mmself.evaluate.metrics.base import Figure, compare, summarise
from llamafactory_mmself.evaluate.metrics.toy_captions import ToyCaptions
from llamafactory_mmself.evaluate.results import Result, read_results
from llamafactory_mmself.files import read_json, read_jsonl
from llamafactory_mmself.toyworld.scenes import Scene
from llamafactory_mmself.toyworld.services import caption_score


TASK = "toy_captions"
RECIPES = ROOT / "examples" / "mdpo"
OFFLINE, GRPO = "offline", "grpo"
# `recipe` names the kind of training here; `offline` takes the pairs that the start gave. Half of the text loss is the
# published form of `orm` alone: the recipe takes all of it, as other strategies do.
VARIANTS = (
    Variant("online", "OViP online", "online", {"strategy": "online-orm"}),
    Variant("offline", "OViP offline", OFFLINE, {"strategy": "orm"}),
    Variant("text", "online, no image loss", "online", {"strategy": "online-dpo", "not_half_dpo_loss": False}),
    Variant(
        "no-middle",
        "online, image loss without a middle (mDPO)",
        "online",
        {"strategy": "online-mdpo", "not_half_dpo_loss": False},
    ),
    Variant(
        "white-middle",
        "online, white picture as the middle (S-VCO)",
        "online",
        {"strategy": "online-svco-ref", "not_half_dpo_loss": False},
    ),
    Variant("anchor", "online, with anchors", "online", {"strategy": "online-orm", "anchor_ratio": 1.0}),
    Variant("text-offline", "offline, no image loss", OFFLINE, {"strategy": "dpo", "not_half_dpo_loss": False}),
    Variant("grpo", "GRPO", GRPO, {}),
)
GAINS = {"start": "start", "offline": "OViP offline"}
REPORT = Report(
    "hallucination",
    "Hallucination in captions of the toy world",
    "CHAIR: things named that are not there, of all named; CHAIRs: captions with one. Coverage: things named, "
    "of those there. Reward: the judge's mean score, 0 to 10.",
    (
        "variant",
        "seeds",
        "updates",
        "CHAIR",
        "CHAIRs",
        "coverage",
        "reward",
        "unread",
        "CHAIR − start",
        "coverage − start",
        "reward − start",
        "CHAIR − offline",
    ),
    left=2,
    about="Greedy captions of {questions} held-out scenes, seeds together, in percent. In brackets: 95 % intervals "
    "of a bootstrap that is paired over scenes.",
)


def main() -> None:
    parser = options(__doc__, VARIANTS, "benchmark-ovip")
    parser.add_argument("--updates", type=int, default=16, help="optimizer steps of each variant (default: 16)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change values of all runs")
    parser.set_defaults(train=400)
    given = parser.parse_args()
    variants = [variant for variant in VARIANTS if variant.name in given.variants]
    more = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in given.set)}

    def run(seed: Seed) -> None:
        data = seed.world(train=0, test=0, prompts=given.train, captions=given.test)
        start = seed.start("captioner")
        evaluate(seed, "start", start, data)
        for variant in variants:
            if variant.recipe == OFFLINE:
                build(seed, start, data)
            train(seed, variant, start, data, {"max_steps": given.updates, **more})
            evaluate(seed, variant.name, start, data, adapter=seed.folder / variant.name)

    for_each_seed(given, run)
    REPORT.write(given.out, collect(given.work), cells)


def build(seed: Seed, start: Path, data: Path) -> None:
    """The offline pairs, from the sampling settings of the online recipe."""
    out = seed.folder / "pairs"
    if (out / "dataset_info.json").exists():
        return
    engine = ("--model", start, "--template", "qwen2_vl", "--batch_size", 64)
    sampling = ("--n", 16, "--temperature", 1.2, "--top_p", 0.95, "--max_new_tokens", 64)
    places = ("--ds_path", data / "prompts.json", "--out", out, "--name", "pairs", "--seed", seed.number)
    seed.mmself("pairs", "build", "ovip", *places, "--services", "toy", *engine, *sampling)


def train(seed: Seed, variant: Variant, start: Path, data: Path, more: Mapping[str, Any]) -> None:
    """Trains a variant, unless it is trained; a run that was cut off goes on."""
    out = seed.folder / variant.name
    if (out / "train_results.json").exists():
        return
    recipe = RECIPES / f"{'grpo' if variant.recipe == GRPO else 'online_orm'}_toy.yaml"
    changes: dict[str, Any] = {
        "model_name_or_path": start,
        "ds_path": data / "prompts.json",
        "output_dir": out,
        "seed": seed.number,
        "plot_loss": False,
        "save_strategy": "no",
        "overwrite_output_dir": True,
        **variant.changes,
        **more,
    }
    if variant.recipe == OFFLINE:
        recipe = _offline(recipe, seed.folder / f"{variant.name}.yaml")
        changes |= {"dataset": "pairs", "dataset_dir": seed.folder / "pairs", "media_dir": seed.folder / "pairs"}
        del changes["ds_path"]
    seed.train(variant.name, recipe, changes)


def _offline(online: Path, path: Path) -> Path:
    """The online recipe without what samples, and with as many rows a step."""
    recipe = yaml.safe_load(online.read_text(encoding="utf-8"))
    sampled = ("ds_path", "services", "exp_per_batch", "pair_rule")
    rows = recipe["exp_per_batch"]
    recipe = {key: value for key, value in recipe.items() if key not in sampled and not key.startswith("rollout_")}
    path.write_text(yaml.safe_dump({**recipe, "per_device_train_batch_size": rows}), encoding="utf-8")
    return path


def evaluate(seed: Seed, name: str, start: Path, data: Path, adapter: Path | None = None) -> None:
    """Greedy captions of the held-out scenes, and their figures."""
    out = seed.folder / "eval" / name
    if (out / TASK / "scores.json").exists():
        return
    model = ("--model", start, "--template", "qwen2_vl", "--batch_size", 64)
    trained = ("--adapter", adapter) if adapter else ()
    seed.mmself(f"eval-{name}", "eval", "--task", TASK, "--data", data, "--out", out, *model, *trained)


def collect(work: Path) -> list[dict[str, Any]]:
    """Figures and gains of the start and of each variant, over the seeds that have them."""
    seeds = {int(folder.name.removeprefix("seed")): folder for folder in sorted(work.resolve().glob("seed*"))}
    known = {seed: folder / "eval" for seed, folder in seeds.items() if (folder / "eval" / "start").is_dir()}
    rows = [_row("start", "start", None, known)]
    rows += [_row(variant.name, variant.title, variant, known) for variant in VARIANTS]
    return [row for row in rows if row["seeds"]]


def _row(name: str, title: str, variant: Variant | None, known: Mapping[int, Path]) -> dict[str, Any]:
    seeds = [seed for seed, folder in known.items() if (folder / name / TASK / "scores.json").exists()]
    if not seeds:
        return {"seeds": []}
    after = _columns([known[seed] / name for seed in seeds])
    gains: dict[str, Any] = {}
    for other in GAINS:
        if other != name and all((known[seed] / other / TASK / "scores.json").exists() for seed in seeds):
            before = _columns([known[seed] / other for seed in seeds])
            gains[other] = _plain(compare(before, after, figures))
            each = [
                (figures(_columns([known[seed] / other])), figures(_columns([known[seed] / name]))) for seed in seeds
            ]
            gains[other]["seeds"] = [{key: late[key] - early[key] for key in late} for early, late in each]
    return {
        "name": name,
        "title": title,
        "variant": asdict(variant) if variant else None,
        "verifier": f"{ToyCaptions.name} {ToyCaptions.version}",
        "seeds": seeds,
        "updates": [_updates(known[seed].parent / name) for seed in seeds] if variant else [],
        "questions": len(after["named"]),
        "figures": _plain(summarise(after, figures)),
        "each seed": [figures(_columns([known[seed] / name])) for seed in seeds],
        "gains": gains,
    }


def _updates(run: Path) -> int:
    return int(read_json(run / "trainer_state.json")["global_step"])


def _columns(folders: Sequence[Path]) -> dict[str, Any]:
    """One number a caption and column, the judge's score among them; several runs behind each other."""
    found = [_of(folder) for folder in folders]
    return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}


def _of(folder: Path) -> dict[str, Any]:
    result: Result = read_results(folder)[TASK]
    texts = {row["id"]: row["text"] for row in read_jsonl(folder / TASK / "predictions.jsonl")}
    truth = {row["id"]: row["scene"] for row in read_json(folder.parent.parent / "data" / "captions.json")}
    rewards = [caption_score(texts[id], Scene.parse(truth[id])) for id in result.ids]
    return {**result.columns, "reward": np.asarray(rewards)}


def figures(columns: Mapping[str, Any]) -> dict[str, float]:
    """The metric's figures and the mean reward."""
    return {**ToyCaptions().figures(columns), "reward": float(columns["reward"].mean())}


def _plain(found: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        name: {"value": figure.value, "low": figure.interval.low, "high": figure.interval.high}
        for name, figure in found.items()
        if figure.interval is not None
    }


def cells(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row."""
    found, gains = row["figures"], row["gains"]
    return [
        row["title"],
        ", ".join(map(str, row["seeds"])),
        ", ".join(map(str, sorted(set(row["updates"])))) or "–",
        *(f"{found[name]['value']:.1f}" for name in ("chair_i", "chair_s", "coverage")),
        f"{found['reward']['value']:.2f}",
        f"{found['unread']['value']:.1f}",
        *(_signed(gains, "start", name) for name in ("chair_i", "coverage", "reward")),
        _signed(gains, "offline", "chair_i"),
    ]


def _signed(gains: Mapping[str, Any], other: str, name: str) -> str:
    if other not in gains:
        return "–"
    found = gains[other][name]
    return f"{found['value']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


if __name__ == "__main__":
    main()
