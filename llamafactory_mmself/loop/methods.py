# SPDX-License-Identifier: Apache-2.0
"""The steps of R3V and STL, round by round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.questions import Question
from ..evaluate.answers import disputed
from ..generate.jobs import read_samples
from ..generate.seeds import derived_seed
from ..generate.types import Request
from ..recipes import r3v, stl
from ..recipes.examples import Example, mixed, write_dataset
from ..recipes.lengths import fitting
from ..recipes.records import Checked
from ..recipes.stl_options import STLOptions
from .recipe import Form, Recipe
from .rounds import Rounds, read_checked
from .sampler import Sampler
from .settings import cutoff_len, token_limit
from .steps import Step


DATASET = "self_training"


def make_steps(recipe: Recipe, sampler: Sampler) -> list[Step]:
    """All steps of a run, in order.

    Raises:
        LoopError, VerifyError, PromptError: for settings that cannot work.
    """
    rounds = Rounds(recipe, sampler)
    method = _R3V(rounds) if recipe.method == "r3v" else _STL(rounds)
    steps = []
    if recipe.warmup is not None:
        steps += [_warmup(rounds), rounds.train(0, _dataset(rounds, 0))]
    for number in range(recipe.iterations + 1):
        if number > 0:
            steps += [method.build(number), rounds.train(number, _dataset(rounds, number))]
        if rounds.lora and (number > 0 or recipe.warmup) and (rounds.serves_merged or _merges(recipe, number)):
            steps.append(rounds.merge(number))
        if recipe.test_data is not None:
            steps += _evaluation(rounds, number, method.form)
        if number < recipe.iterations:
            steps += method.learn(number)
    return steps


def _merges(recipe: Recipe, number: int) -> bool:
    last = number == recipe.iterations
    wanted = {"all": True, "last": last, "never": False}[recipe.export]
    return wanted or (recipe.start == "continue" and not last)


def _dataset(rounds: Rounds, number: int) -> Path:
    return rounds.iteration(number) / "train" / f"{DATASET}.json"


def _written(rounds: Rounds, number: int) -> tuple[Path, Path]:
    """What a build writes: the rows, and the file that registers them."""
    dataset = _dataset(rounds, number)
    return dataset, dataset.with_name("dataset_info.json")


def _warmup(rounds: Rounds) -> Step:
    """The training data of round 0: the user's rows, as they are."""
    source = rounds.recipe.warmup
    assert source is not None

    def action() -> dict[str, Any]:
        examples = fitting(r3v.warmup_examples(source), token_limit(rounds.recipe))
        write_dataset(rounds.iteration(0) / "train", DATASET, examples)
        return {"rows": len(examples)}

    settings = {"cutoff_len": cutoff_len(rounds.recipe)}
    return Step("iter0/build", action, {"warmup": source}, _written(rounds, 0), settings)


def _evaluation(rounds: Rounds, number: int, form: Form) -> list[Step]:
    """Greedy answers, samples, self-selection among them, and the scores."""
    recipe, folder = rounds.recipe, rounds.iteration(number)
    assert recipe.test_data is not None
    file, questions = recipe.test_data, lambda: rounds.test_questions
    form = recipe.evaluate.form or form
    settings = _prompt_settings(rounds, form)
    steps = []

    def add(purpose: str, requests: Any, inputs: Mapping[str, Path], params: Any, extra: Mapping[str, Any]) -> None:
        steps.append(
            rounds.sample(number, purpose, requests, {"questions": file, **inputs}, params, {**settings, **extra})
        )
        steps.append(rounds.check(number, purpose, file, questions))

    def ask() -> list[Request]:
        return _ask(rounds, rounds.test_questions, form)

    purposes = ["test_greedy"]
    add("test_greedy", ask, {}, rounds.params.greedy, {})
    if recipe.evaluate.samples:
        heat = rounds.params.temperature if recipe.evaluate.temperature is None else recipe.evaluate.temperature
        add("test_samples", ask, {}, replace(rounds.params, n=recipe.evaluate.samples, temperature=heat), {})
        purposes.append("test_samples")
        if recipe.evaluate.select and recipe.method == "r3v":
            seed = derived_seed(recipe.seed, number, "candidates")
            spare = recipe.evaluate.spare_agreeing
            samples = folder / ("checked_test_samples.jsonl" if spare else "test_samples.jsonl")

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
            add("test_select", select, {"samples": samples}, rounds.params.greedy, chosen)
            purposes.append("test_select")
    return [*steps, rounds.score(number, purposes)]


def _ask(rounds: Rounds, questions: list[Question], form: Form) -> list[Request]:
    if form == "answer":
        options = STLOptions.from_dict(rounds.recipe.build) if rounds.recipe.method == "stl" else STLOptions()
        return stl.answer_requests(questions, rounds.prompts, options)
    if form == "cot":
        return r3v.cot_requests(questions, rounds.prompts)
    return r3v.direct_requests(questions, rounds.prompts)


def _prompt_settings(rounds: Rounds, form: Form) -> dict[str, Any]:
    """What the requests of a form depend on beside the questions."""
    bare = form == "answer" and not rounds.recipe.build.get("caption", True)
    name = "answer_nocaption" if bare else form
    return {"form": name, "prompt": rounds.prompts.digest_of(name)}


class _Method:
    """What a method does in a round beside what all share."""

    form: Form

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.recipe = rounds.recipe
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
                lambda: _ask(rounds, rounds.train_questions, form),
                {"questions": file},
                rounds.params,
                _prompt_settings(rounds, form),
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


class _R3V(_Method):
    def __init__(self, rounds: Rounds) -> None:
        super().__init__(rounds)
        self.options = r3v.R3VOptions.from_dict(self.recipe.build)
        self.sampled = not self.options.letters_only
        self.form: Form = "cot" if self.sampled else "direct"

    def learn(self, number: int) -> list[Step]:
        """What the policy of a round is asked for the next one."""
        wanted = self.sampled and (number == 0 or self.options.pool != "first")
        return self.sample_train(number, "cot") if wanted else []

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
            _written(self.rounds, number),
            self.settings,
        )


class _STL(_Method):
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
            _written(self.rounds, number),
            self.settings,
        )
