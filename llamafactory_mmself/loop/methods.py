# SPDX-License-Identifier: Apache-2.0
"""All steps of a run, and those of R3V and STL, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..evaluate.answers import disputed
from ..generate.jobs import read_samples
from ..generate.seeds import derived_seed
from ..generate.types import Request
from ..recipes import r3v, stl
from ..recipes.examples import write_dataset
from ..recipes.lengths import fitting
from ..recipes.records import Checked
from ..recipes.stl_options import STLOptions
from .ares import Ares, AresRounds
from .method import DATASET, Method, SelfTraining, dataset, written
from .recipe import Form, Recipe
from .rounds import Rounds, read_checked
from .sampler import Sampler
from .settings import cutoff_len, token_limit
from .sherlock import Sherlock, SherlockRounds
from .steps import Step
from .tasks import TaskSteps


def make_steps(recipe: Recipe, sampler: Sampler) -> list[Step]:
    """All steps of a run, in order.

    Raises:
        LoopError, VerifyError, PromptError: for settings that cannot work.
    """
    method = _method(recipe, sampler)
    rounds, steps = method.rounds, []
    tasks = TaskSteps(rounds)
    if recipe.warmup is not None:
        steps += [_warmup(rounds), rounds.train(0, dataset(rounds, 0))]
    for number in range(recipe.iterations + 1):
        if number > 0:
            steps += [method.build(number), rounds.train(number, dataset(rounds, number))]
        if rounds.merges(number):
            steps.append(rounds.merge(number))
        if recipe.test_data is not None:
            steps += method.evaluation(number)
        steps += tasks.steps(number)
        if number < recipe.iterations:
            steps += method.learn(number)
    return steps


def _method(recipe: Recipe, sampler: Sampler) -> Method:
    if recipe.method == "sherlock":
        return Sherlock(SherlockRounds(recipe, sampler))
    if recipe.method == "ares":
        return Ares(AresRounds(recipe, sampler))
    rounds = Rounds(recipe, sampler)
    return _R3V(rounds) if recipe.method == "r3v" else _STL(rounds)


def _warmup(rounds: Rounds) -> Step:
    """The training data of round 0: the user's rows, as they are."""
    source = rounds.recipe.warmup
    assert source is not None

    def action() -> dict[str, Any]:
        examples = fitting(r3v.warmup_examples(source), token_limit(rounds.recipe))
        write_dataset(rounds.iteration(0) / "train", DATASET, examples)
        return {"rows": len(examples)}

    settings = {"cutoff_len": cutoff_len(rounds.recipe)}
    return Step("iter0/build", action, {"warmup": source}, written(rounds, 0), settings)


class _R3V(SelfTraining):
    def __init__(self, rounds: Rounds) -> None:
        super().__init__(rounds)
        self.options = r3v.R3VOptions.from_dict(self.recipe.build)
        self.sampled = not self.options.letters_only
        self.form: Form = "cot" if self.sampled else "direct"

    def learn(self, number: int) -> list[Step]:
        """What the policy of a round is asked for the next one."""
        wanted = self.sampled and (number == 0 or self.options.pool != "first")
        return self.sample_train(number, "cot") if wanted else []

    def second_looks(self, number: int, asked: Mapping[str, Any]) -> list[Step]:
        """Self-selection among the samples."""
        recipe, rounds = self.recipe, self.rounds
        if not (recipe.evaluate.samples and recipe.evaluate.select):
            return []
        assert recipe.test_data is not None
        seed = derived_seed(recipe.seed, number, "candidates")
        spare = recipe.evaluate.spare_agreeing
        samples = rounds.iteration(number) / ("checked_test_samples.jsonl" if spare else "test_samples.jsonl")

        def select() -> list[Request]:
            drawn = [item.sample for item in disputed(read_checked(samples))] if spare else read_samples(samples)
            candidates: dict[str, list[str]] = {}
            for sample in drawn:
                candidates.setdefault(sample.request, []).append(sample.text)
            limit = token_limit(recipe)
            return r3v.select_requests(rounds.test_questions, candidates, rounds.prompts, seed, limit=limit)

        chosen = {
            "prompt": rounds.prompts.digest_of("select", "candidate"),
            "candidates": seed,
            "cutoff_len": cutoff_len(recipe),
        }
        inputs = {"questions": recipe.test_data, "samples": samples}
        return [rounds.sample(number, "test_select", select, inputs, rounds.params.greedy, {**asked, **chosen})]

    def build(self, number: int) -> Step:
        """The training data of a round."""
        files = self.pool("checked_samples_train", number, self.options.pool) if self.sampled else {}

        def action() -> dict[str, Any]:
            pool = [item for path in files.values() for item in read_checked(path)]
            seed = derived_seed(self.recipe.seed, number, "build")
            rounds, limit = self.rounds, token_limit(self.recipe)
            examples = r3v.build(rounds.train_questions, pool, self.options, rounds.prompts, seed, limit=limit)
            return self.write(number, examples)

        return Step(
            f"iter{number}/build",
            action,
            {**self.build_inputs(), **{f"samples{t}": path for t, path in files.items()}},
            written(self.rounds, number),
            self.settings,
        )


class _STL(SelfTraining):
    def __init__(self, rounds: Rounds) -> None:
        super().__init__(rounds)
        self.options = STLOptions.from_dict(self.recipe.build)
        self.form: Form = "direct" if self.options.letters_only else "answer"

    def learn(self, number: int) -> list[Step]:
        """Answers, and for each wrong option of a solved question why it is wrong."""
        if self.options.letters_only:
            return []
        steps = self.sample_train(number, "answer")
        return steps if not self.options.negatives else [*steps, self._refute(number)]

    def _refute(self, number: int) -> Step:
        rounds = self.rounds
        answers = rounds.iteration(number) / "checked_samples_train.jsonl"

        def requests() -> list[Request]:
            return stl.refute_requests(rounds.train_questions, read_checked(answers), rounds.prompts, self.options)

        return rounds.sample(
            number,
            "refutations",
            requests,
            {"questions": self.recipe.train_data, "answers": answers},
            replace(rounds.params, n=1),
            {"prompts": rounds.prompts.digest, "build": dict(self.recipe.build)},
        )

    def build(self, number: int) -> Step:
        """The training data of a round."""
        options, direct = self.options, self.options.letters_only
        answers = {} if direct else self.pool("checked_samples_train", number, options.pool)
        refutations = self.pool("refutations", number, options.pool) if options.negatives and not direct else {}

        def action() -> dict[str, Any]:
            solved: list[Checked] = [item for path in answers.values() for item in read_checked(path)]
            refuted = {t: read_samples(path) for t, path in refutations.items()}
            seed = derived_seed(self.recipe.seed, number, "build")
            rounds, limit = self.rounds, token_limit(self.recipe)
            built = stl.build(rounds.train_questions, solved, refuted, options, rounds.prompts, seed, limit=limit)
            skipped = {f"skipped: {reason}": count for reason, count in built.skipped.items()}
            return {**self.write(number, list(built.examples)), **skipped}

        return Step(
            f"iter{number}/build",
            action,
            {
                **self.build_inputs(),
                **{f"answers{t}": path for t, path in answers.items()},
                **{f"refutations{t}": path for t, path in refutations.items()},
            },
            written(self.rounds, number),
            self.settings,
        )
