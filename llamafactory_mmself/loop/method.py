# SPDX-License-Identifier: Apache-2.0
"""What the methods share: where rows go, how questions are asked, what is measured after a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.questions import Question
from ..generate.seeds import derived_seed
from ..generate.types import Request
from ..recipes import r3v, stl
from ..recipes.examples import Example, mixed, write_dataset
from ..recipes.lengths import fitting
from ..recipes.stl_options import STLOptions
from .recipe import Form
from .rounds import Rounds
from .settings import cutoff_len, token_limit
from .steps import Step


DATASET = "self_training"


def dataset(rounds: Rounds, number: int) -> Path:
    """The rows of a round."""
    return rounds.iteration(number) / "train" / f"{DATASET}.json"


def written(rounds: Rounds, number: int) -> tuple[Path, Path]:
    """What a build writes: the rows, and the file that registers them."""
    path = dataset(rounds, number)
    return path, path.with_name("dataset_info.json")


class Method:
    """What a method does in a round beside what all share."""

    form: Form

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.recipe = rounds.recipe

    def learn(self, number: int) -> list[Step]:
        """What the policy of a round is asked for the next one."""
        raise NotImplementedError

    def build(self, number: int) -> Step:
        """The training data of a round."""
        raise NotImplementedError

    def ask(self, questions: Sequence[Question], form: Form) -> list[Request]:
        """Requests for questions in a form."""
        if form == "answer":
            options = STLOptions.from_dict(self.recipe.build) if self.recipe.method == "stl" else STLOptions()
            return stl.answer_requests(questions, self.rounds.prompts, options)
        if form == "cot":
            return r3v.cot_requests(questions, self.rounds.prompts)
        return r3v.direct_requests(questions, self.rounds.prompts)

    def prompt_settings(self, form: Form) -> dict[str, Any]:
        """What the requests of a form depend on beside the questions."""
        bare = form == "answer" and not self.recipe.build.get("caption", True)
        name = "answer_nocaption" if bare else form
        return {"form": name, "prompt": self.rounds.prompts.digest_of(name)}

    def evaluation(self, number: int) -> list[Step]:
        """Greedy answers, samples, what the model makes of them, and the scores."""
        recipe, rounds = self.recipe, self.rounds
        assert recipe.test_data is not None
        form = recipe.evaluate.form or self.form
        asked, inputs = self.prompt_settings(form), {"questions": recipe.test_data}

        def ask() -> list[Request]:
            return self.ask(rounds.test_questions, form)

        steps = [rounds.sample(number, "test_greedy", ask, inputs, rounds.params.greedy, asked)]
        if recipe.evaluate.samples:
            heat = rounds.params.temperature if recipe.evaluate.temperature is None else recipe.evaluate.temperature
            params = replace(rounds.params, n=recipe.evaluate.samples, temperature=heat)
            steps.append(rounds.sample(number, "test_samples", ask, inputs, params, asked))
        steps += self.second_looks(number, asked)
        purposes = [step.name.partition("/")[2] for step in steps]
        tested = [
            (step, rounds.check(number, purpose, recipe.test_data, lambda: rounds.test_questions))
            for step, purpose in zip(steps, purposes, strict=True)
        ]
        return [*(step for pair in tested for step in pair), rounds.score(number, purposes)]

    def second_looks(self, number: int, asked: Mapping[str, Any]) -> list[Step]:
        """What the model is asked about its own answers to the test questions."""
        return []


class SelfTraining(Method):
    """What R3V and STL share: samples of the training questions, and warm-up rows in every round."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__(rounds)
        self.settings = {
            "prompts": rounds.prompts.digest,
            "build": dict(self.recipe.build),
            "seed": self.recipe.seed,
            "cutoff_len": cutoff_len(self.recipe),
        }

    def pool(self, purpose: str, number: int, wanted: str) -> dict[int, Path]:
        """Round -> file with the samples that round `number` learns from."""
        rounds = {"all": range(number), "newest": range(number - 1, number), "first": range(1)}[wanted]
        return {t: self.rounds.iteration(t) / f"{purpose}.jsonl" for t in rounds}

    def sample_train(self, number: int, form: Form) -> list[Step]:
        """Samples of the training questions, checked."""
        rounds, file = self.rounds, self.recipe.train_data
        return [
            rounds.sample(
                number,
                "samples_train",
                lambda: self.ask(rounds.train_questions, form),
                {"questions": file},
                rounds.params,
                self.prompt_settings(form),
            ),
            rounds.check(number, "samples_train", file, lambda: rounds.train_questions),
        ]

    def write(self, number: int, examples: list[Example]) -> dict[str, Any]:
        """Writes the training data of a round."""
        if self.recipe.warmup is not None:
            warmup = fitting(r3v.warmup_examples(self.recipe.warmup), token_limit(self.recipe))
            examples = mixed([*warmup, *examples], derived_seed(self.recipe.seed, number, "mix"))
        write_dataset(self.rounds.iteration(number) / "train", DATASET, examples)
        return dict(Counter(example.kind for example in examples))

    def build_inputs(self) -> dict[str, Path]:
        """What every build reads."""
        warmup = {} if self.recipe.warmup is None else {"warmup": self.recipe.warmup}
        return {"questions": self.recipe.train_data, **warmup}
