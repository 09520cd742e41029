# SPDX-License-Identifier: Apache-2.0
"""The steps that every method shares: sampling, checking, training, merging, scoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import verify
from ..data.questions import Question, read_questions
from ..evaluate.answers import Scores, score
from ..files import read_jsonl, write_json, write_jsonl
from ..generate.config import EngineConfig, shared_arguments
from ..generate.jobs import SampleJob, read_samples
from ..generate.seeds import derived_seed
from ..generate.types import Request, SamplingParams
from ..recipes.prompts import Prompts
from ..recipes.records import Checked, verify_samples
from .recipe import Recipe, from_values
from .sampler import Sampler
from .settings import engine_config, training_arguments
from .steps import Step
from .training import merge, train


TASKS = "tasks"  # folder of a round with the results of `evaluate.tasks`


@dataclass(frozen=True)
class Policy:
    """The weights of a round: a model, and an adapter on it or None."""

    model: str
    adapter: Path | None = None

    @property
    def inputs(self) -> dict[str, Path]:
        """What a step that uses the policy reads."""
        model = {"model": Path(self.model)} if Path(self.model).is_absolute() else {}
        return model | ({} if self.adapter is None else {"adapter": self.adapter})

    @property
    def names(self) -> dict[str, str]:
        """The hub name of a model that is no local folder."""
        return {} if Path(self.model).is_absolute() else {"model": self.model}


class Rounds:
    """Makes the steps of a run."""

    def __init__(self, recipe: Recipe, sampler: Sampler) -> None:
        self.recipe = recipe
        self.sampler = sampler
        self.folder = recipe.output_dir
        self.profile = verify.profile(recipe.verifier)
        self.params = from_values(SamplingParams, recipe.sampling, "`sampling`")
        self.engine = engine_config(recipe)

    @cached_property
    def prompts(self) -> Prompts:
        """The prompts of R3V and STL."""
        return Prompts.load(self.recipe.prompts)

    @cached_property
    def train_questions(self) -> list[Question]:
        """The questions to learn from."""
        return read_questions(self.recipe.train_data)

    @cached_property
    def test_questions(self) -> list[Question]:
        """The held-out questions."""
        assert self.recipe.test_data is not None
        return read_questions(self.recipe.test_data)

    @property
    def lora(self) -> bool:
        """Whether training leaves adapters."""
        return bool(self.recipe.train.get("finetuning_type", "lora") in ("lora", "oft"))

    @property
    def serves_merged(self) -> bool:
        """Whether samples come from merged models: vLLM takes no adapter that changes the projector."""
        trained = self.recipe.train.get("freeze_multi_modal_projector") is False
        return self.engine.name == "vllm" and self.lora and trained

    def iteration(self, number: int) -> Path:
        """The folder of a round."""
        return self.folder / f"iter{number}"

    def base(self, number: int) -> str:
        """What the training of round `number` starts from."""
        first = self.recipe.base_model
        if number <= (0 if self.recipe.warmup else 1) or self.recipe.start == "restart":
            return first
        return str(self.iteration(number - 1) / ("merged" if self.lora else "model"))

    def own_arguments(self, number: int) -> dict[str, Any]:
        """Training arguments of one round, over the recipe's, and perhaps a `global_batch` of its own."""
        return {}

    def merges(self, number: int) -> bool:
        """Whether a round's adapter has to be merged: it is to be exported, sampled from, or trained on."""
        if not self.lora or (number == 0 and self.recipe.warmup is None):
            return False
        last = number == self.recipe.iterations
        wanted = {"all": True, "last": last, "never": False}[self.recipe.export]
        return self.serves_merged or wanted or (self.continues(number) and not last)

    def continues(self, number: int) -> bool:
        """Whether the round after this one trains what this one left."""
        return self.recipe.start == "continue"

    def policy(self, number: int) -> Policy:
        """The weights that round `number` ended with; round 0 is the start."""
        if number == 0 and self.recipe.warmup is None:
            return Policy(self.recipe.base_model)
        if self.serves_merged:
            return Policy(str(self.iteration(number) / "merged"))
        return self.trained(number)

    def trained(self, number: int) -> Policy:
        """What the training of a round left: an adapter on its base, or a model."""
        model = self.iteration(number) / "model"
        return Policy(self.base(number), model) if self.lora else Policy(str(model))

    def serving(self, number: int) -> EngineConfig:
        """The engine on round `number`'s policy."""
        policy = self.policy(number)
        adapter = () if policy.adapter is None else (str(policy.adapter),)
        return replace(self.engine, model=policy.model, adapter=adapter)

    def sample(
        self,
        number: int,
        purpose: str,
        requests: Callable[[], Sequence[Request]],
        inputs: Mapping[str, Path],
        params: SamplingParams,
        settings: Mapping[str, Any],
    ) -> Step:
        """Sampling with round `number`'s policy into `iter<number>/<purpose>.jsonl`."""
        policy, config = self.policy(number), self.serving(number)
        out = self.iteration(number) / f"{purpose}.jsonl"
        seed = derived_seed(self.recipe.seed, number, purpose)

        def action() -> dict[str, Any]:
            asked = tuple(requests())
            if asked:
                self.sampler.run(SampleJob(asked, params, seed, out), config)
            else:
                write_jsonl(out, [])
            samples = read_samples(out)
            cut = sum(sample.completion.finish_reason == "length" for sample in samples)
            tokens = sum(len(sample.completion.token_ids) for sample in samples)
            return {"samples": len(samples), "tokens": tokens, "cut": cut}

        return Step(
            name=f"iter{number}/{purpose}",
            action=action,
            inputs={**inputs, **policy.inputs},
            outputs=(out,),
            settings={
                "engine": config.identity(),
                "params": params.to_dict(),
                "seed": seed,
                **settings,
            },
            scratch=(out.parent / f"{out.name}.*",),
            names=policy.names,
        )

    def check(self, number: int, purpose: str, questions_file: Path, questions: Callable[[], list[Question]]) -> Step:
        """Checks `iter<number>/<purpose>.jsonl` into `checked_<purpose>.jsonl`."""
        folder = self.iteration(number)
        samples, out = folder / f"{purpose}.jsonl", folder / f"checked_{purpose}.jsonl"

        def action() -> dict[str, Any]:
            checked = verify_samples(questions(), read_samples(samples), self.recipe.verifier, number)
            write_jsonl(out, (item.to_row() for item in checked))
            correct = sum(item.verdict.correct for item in checked)
            unparsed = sum(not item.verdict.parsed for item in checked)
            return {"correct": correct, "unparsed": unparsed, "of": len(checked)}

        return Step(
            name=f"iter{number}/check_{purpose}",
            action=action,
            inputs={"samples": samples, "questions": questions_file},
            outputs=(out,),
            settings={"verifier": self.profile.name, "version": self.profile.version},
        )

    def train(self, number: int, dataset: Path) -> Step:
        """Trains round `number` on its data set, with `llamafactory-cli train`."""
        folder = self.iteration(number)
        model, base = folder / "model", self.base(number)
        own = self.own_arguments(number)
        arguments = training_arguments(self.recipe, base, dataset, model, own)
        config = folder / "train.yaml"
        start = Policy(base)
        # Where a run stands, and on how many devices it goes on, changes nothing that it has done.
        moved = {"dataset_dir", "output_dir"}
        batch = {"global_batch": own.get("global_batch", self.recipe.global_batch)}
        if batch["global_batch"] is None:
            batch = {}
        else:
            moved.add("gradient_accumulation_steps")
        return Step(
            name=f"iter{number}/train",
            action=lambda: train(arguments, config),
            inputs={"dataset": dataset, **start.inputs, **_named_files({**self.recipe.train, **own})},
            outputs=(model,),
            settings={name: value for name, value in arguments.items() if name not in moved} | batch,
            scratch=(config, config.with_suffix(".log")),
            names=start.names,
        )

    def merge(self, number: int) -> Step:
        """Merges round `number`'s adapter into a full model in `iter<number>/merged`."""
        folder, policy = self.iteration(number), self.trained(number)
        assert policy.adapter is not None
        adapter, out = policy.adapter, folder / "merged"

        def action() -> dict[str, Any]:
            extra = shared_arguments(self.recipe.train)
            merge(policy.model, adapter, self.recipe.template, out, folder / "merge.yaml", extra)
            return {}

        return Step(
            name=f"iter{number}/merge",
            action=action,
            inputs=policy.inputs,
            outputs=(out,),
            settings={"template": self.recipe.template},
            scratch=(folder / "merge.yaml", folder / "merge.log"),
            names=policy.names,
        )

    def score(self, number: int, purposes: Sequence[str]) -> Step:
        """Writes `iter<number>/scores.json` from the checked test samples."""
        assert self.recipe.test_data is not None
        folder = self.iteration(number)
        files = {purpose: folder / f"checked_{purpose}.jsonl" for purpose in purposes}
        out = folder / "scores.json"

        def action() -> dict[str, Any]:
            checked = {purpose: read_checked(path) for purpose, path in files.items()}
            scores: Scores = score(
                self.test_questions,
                greedy=checked["test_greedy"],
                samples=checked.get("test_samples"),
                select=checked.get("test_select"),
                corrected=[checked[name] for name in purposes if name.startswith("test_correct")],
                profile=self.recipe.verifier,
                seed=self.recipe.seed,
            )
            write_json(out, scores.to_dict())
            return {name: round(value.accuracy, 4) for name, value in scores.named().items()}

        return Step(
            name=f"iter{number}/score",
            action=action,
            inputs={**files, "questions": self.recipe.test_data},
            outputs=(out,),
            settings={"verifier": self.profile.name, "version": self.profile.version, "seed": self.recipe.seed},
        )


def _named_files(arguments: Mapping[str, Any]) -> dict[str, Path]:
    """Files that training arguments name: their content counts, too."""
    values = {name: value for name, value in arguments.items() if isinstance(value, str) and value.startswith("/")}
    return {name: Path(value) for name, value in values.items() if Path(value).is_file()}


def read_checked(path: Path) -> list[Checked]:
    """Reads a file of checked samples."""
    return [Checked.from_row(row) for row in read_jsonl(path)]
