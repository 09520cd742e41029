# SPDX-License-Identifier: Apache-2.0
"""The steps of Sherlock.

| round | starts from | learns | what its policy does for the next round |
|---|---|---|---|
| 1, R0 | base model | responses of sample A | answers sample B |
| 2, SFT | base model | responses of B, as corrections of R0's answers too | goes on from beginnings of A's responses |
| 3, offline | round 2 | annotated responses over those gone wrong | answers, corrects, goes on from first answers |
| 4 ..., online | the round before | corrections over answers gone wrong | the same |

The model that a preference round starts from is its reference, too. Adapters are merged before the next round, because
switching one off would give the model below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..data.questions import Question, read_questions
from ..generate.config import EngineConfig
from ..generate.jobs import SampleJob, read_samples
from ..generate.seeds import derived_seed
from ..generate.types import Request, Sample, SamplingParams
from ..recipes import sherlock, sherlock_online, sherlock_pairs
from ..recipes.examples import write_dataset
from ..recipes.prompts import SherlockPrompts
from ..recipes.sherlock_options import SherlockOptions
from .method import DATASET, Method, dataset, written
from .recipe import PHASES, Form, Recipe
from .rounds import Policy, Rounds
from .sampler import Sampler
from .settings import cutoff_len, token_limit
from .steps import Step


R0, SFT, OFFLINE = 1, 2, 3


def round_name(number: int) -> str:
    """What a round is called."""
    return {0: "base", R0: "R0", SFT: "SFT", OFFLINE: "offline"}.get(number, f"online {number - OFFLINE}")


class SherlockRounds(Rounds):
    """Makes the steps of a run, each round from the start that it has in the paper."""

    def __init__(self, recipe: Recipe, sampler: Sampler) -> None:
        super().__init__(recipe, sampler)
        self.sherlock_prompts = SherlockPrompts.load(recipe.prompts)

    def base(self, number: int) -> str:
        """See `Rounds.base`: both supervised rounds start from the base model, each preference round from the last."""
        if number <= SFT:
            return self.recipe.base_model
        return str(self.iteration(number - 1) / ("merged" if self.lora else "model"))

    def continues(self, number: int) -> bool:
        """See `Rounds.continues`."""
        return number >= SFT

    def own_arguments(self, number: int) -> dict[str, Any]:
        """See `Rounds.own_arguments`."""
        own: dict[str, Any] = {"stage": "reflection_sft" if number <= SFT else "sherlock_dpo"}
        if number == SFT:
            own["keep_pairs"] = True
        if number >= OFFLINE and "correction" in self.recipe.prompts:
            own["correction_prompt"] = self.recipe.prompts["correction"]
        phase = PHASES[min(number, len(PHASES)) - 1]
        return {**own, **self.recipe.rounds.get(phase, {})}


class Sherlock(Method):
    """The rounds of Sherlock."""

    form: Form = "tagged"
    rounds: SherlockRounds

    def __init__(self, rounds: SherlockRounds) -> None:
        super().__init__(rounds)
        self.rounds = rounds
        self.prompts = rounds.sherlock_prompts
        self.options = SherlockOptions.from_dict(self.recipe.build)
        self.judge = EngineConfig.from_dict(self.recipe.judge, "`judge`") if self.recipe.judge else None
        if self.judge is not None:
            self.judge.check("`judge`")
        self.verifier = [rounds.profile.name, rounds.profile.version]

    def ask(self, questions: Sequence[Question], form: Form) -> list[Request]:
        """See `Method.ask`."""
        return sherlock.ask_requests(questions, self.prompts) if form == "tagged" else super().ask(questions, form)

    def prompt_settings(self, form: Form) -> dict[str, Any]:
        """See `Method.prompt_settings`."""
        if form != "tagged":
            return super().prompt_settings(form)
        return {"form": form, "prompt": self.prompts.digest_of("ask")}

    def second_looks(self, number: int, asked: Mapping[str, Any]) -> list[Step]:
        """Corrections of the greedy answers, each of the one before."""
        names = ["test_greedy", *(f"test_correct{turn + 1}" for turn in range(self.recipe.evaluate.turns))]
        return [self._correct(number, before, name) for before, name in pairwise(names)]

    def _correct(self, number: int, before: str, name: str) -> Step:
        rounds, prompts = self.rounds, self.prompts
        assert self.recipe.test_data is not None
        earlier = rounds.iteration(number) / f"{before}.jsonl"

        def requests() -> list[Request]:
            answers = {sample.request: sample.text for sample in read_samples(earlier)}
            return [
                Request.ask(item.id, sherlock.correction_prompt(item, answers[item.id], prompts), item.images)
                for item in rounds.test_questions
            ]

        inputs = {"questions": self.recipe.test_data, "answers": earlier}
        return rounds.sample(
            number, name, requests, inputs, rounds.params.greedy, {"prompt": prompts.digest_of("correction")}
        )

    def learn(self, number: int) -> list[Step]:
        """See `Method.learn`."""
        if number == 0:
            return [self._split()]
        if number == R0:
            return [self._answers()]
        if number == SFT:
            return self._continuations(number, {"questions": self._part("a")}, self._annotated)
        found = self._chains(number)
        beginnings = {"questions": self._online, "chains": found}
        return [self._candidates(number), *self._continuations(number, beginnings, lambda: self._begun(number))]

    def build(self, number: int) -> Step:
        """See `Method.build`."""
        if number == R0:
            return self._supervised(number, {"questions": self._part("a")}, self._direct)
        if number == SFT:
            answers = self.rounds.iteration(R0) / "answers.jsonl"
            return self._supervised(number, {"questions": self._part("b"), "answers": answers}, self._corrections)
        if number == OFFLINE:
            return self._preferences(number, "offline", {"questions": self._part("a")}, self._annotated_better)
        chains = {"questions": self._online, "chains": self._chains(number - 1)}
        return self._preferences(number, "online", chains, lambda: self._chain_better(number - 1))

    # What is where.

    def _part(self, name: str) -> Path:
        return self.rounds.iteration(0) / "split" / f"{name}.json"

    @property
    def _online(self) -> Path:
        return self.recipe.online_data or self._part("rest")

    def _chains(self, number: int) -> Path:
        return self.rounds.iteration(number) / "chains.jsonl"

    def _tails(self, number: int) -> Path:
        return self.rounds.iteration(number) / "beginnings.jsonl"

    def _unlabelled(self) -> list[Question]:
        return sherlock_online.unlabelled(read_questions(self._online, labelled=False))

    # Supervised rounds.

    def _split(self) -> Step:
        parts = [self._part(name) for name in ("a", "b", "rest")]

        def action() -> dict[str, Any]:
            seed = derived_seed(self.recipe.seed, 0, "split")
            found = sherlock.split(self.rounds.train_questions, self.options.n, seed)
            for path, questions in zip(parts, found, strict=True):
                sherlock.write_split(path.parent, path.stem, questions, self.prompts)
            return {path.stem: len(questions) for path, questions in zip(parts, found, strict=True)}

        return Step(
            "iter0/split",
            action,
            {"questions": self.recipe.train_data},
            (*parts, parts[0].with_name("dataset_info.json")),
            {"n": self.options.n, "seed": self.recipe.seed, "prompt": self.prompts.digest_of("ask")},
        )

    def _answers(self) -> Step:
        return self.rounds.sample(
            R0,
            "answers",
            lambda: sherlock.ask_requests(read_questions(self._part("b")), self.prompts),
            {"questions": self._part("b")},
            replace(self.rounds.params, n=1),
            self.prompt_settings("tagged"),
        )

    def _settings(self, *options: str, prompts: Sequence[str]) -> dict[str, Any]:
        """What a step depends on beside its inputs: the seed, some of the builder's options, some prompts."""
        chosen = {name: getattr(self.options, name) for name in ("tags", *options)}
        return {
            "seed": self.recipe.seed,
            "prompts": self.prompts.digest_of(*prompts),
            **{name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()},
        }

    def _supervised(self, number: int, inputs: Mapping[str, Path], rows: Callable[[int], sherlock.Built]) -> Step:
        def action() -> dict[str, Any]:
            built = rows(derived_seed(self.recipe.seed, number, "build"))
            write_dataset(self.rounds.iteration(number) / "train", DATASET, built.examples)
            return {"rows": len(built.examples), **_skipped(built.skipped)}

        prompts = ("ask",) if number == R0 else ("ask", "correction")
        settings = {**self._settings(prompts=prompts), "cutoff_len": cutoff_len(self.recipe)}
        return Step(f"iter{number}/build", action, inputs, written(self.rounds, number), settings)

    def _direct(self, seed: int) -> sherlock.Built:
        questions = read_questions(self._part("a"))
        return sherlock.direct_rows(questions, self.options, self.prompts, seed, limit=token_limit(self.recipe))

    def _corrections(self, seed: int) -> sherlock.Built:
        questions = read_questions(self._part("b"))
        answers = read_samples(self.rounds.iteration(R0) / "answers.jsonl")
        limit = token_limit(self.recipe)
        return sherlock.correction_rows(
            questions, answers, self.options, self.prompts, seed, iteration=R0, limit=limit
        )

    # Preference rounds.

    def _annotated(self) -> list[sherlock_pairs.Begun]:
        return sherlock_pairs.annotated_beginnings(read_questions(self._part("a")), self.options)[0]

    def _annotated_better(self) -> list[sherlock_pairs.Better]:
        return sherlock_pairs.annotated_better(self._annotated())

    def _begun(self, number: int) -> list[sherlock_pairs.Begun]:
        chains = sherlock_online.read_chains(self._chains(number))
        return sherlock_online.chain_beginnings(chains, self._unlabelled(), self.options)

    def _chain_better(self, number: int) -> list[sherlock_pairs.Better]:
        chains = sherlock_online.read_chains(self._chains(number))
        return sherlock_online.chain_better(chains, self._unlabelled(), self.options, number)

    def _candidates(self, number: int) -> Step:
        """First answers and corrections of unlabelled questions, until enough of them agree."""
        rounds, out = self.rounds, self._chains(number)
        policy, folder = rounds.policy(number), out.with_name("candidates")
        config = rounds.serving(number)
        judge = Policy(str(self.judge.model)) if self.judge is not None and self.judge.model else None
        params = replace(rounds.params, n=1)

        def sampled(config: EngineConfig, params: SamplingParams) -> sherlock_online.Ask:
            def ask(name: str, requests: Sequence[Request]) -> Sequence[Sample]:
                seed = derived_seed(self.recipe.seed, number, name)
                return read_samples(
                    rounds.sampler.run(SampleJob(requests, params, seed, folder / f"{name}.jsonl"), config)
                )

            return ask

        def action() -> dict[str, Any]:
            found = sherlock_online.gather(
                self._unlabelled(),
                sampled(config, params),
                self.options,
                self.prompts,
                self.recipe.verifier,
                derived_seed(self.recipe.seed, number, "order"),
                judge=None if self.judge is None else sampled(self.judge, sherlock_online.JUDGING),
            )
            sherlock_online.write_chains(out, found.chains)
            return {"agreed": len(found.chains), **dict(found.counts)}

        judged = {} if judge is None else {f"judge {name}": path for name, path in judge.inputs.items()}
        return Step(
            f"iter{number}/candidates",
            action,
            {"questions": self._online, **policy.inputs, **judged},
            (out,),
            {
                **self._settings("corrections", "pairs", "chunk", prompts=("ask", "correction", "agree")),
                "verifier": self.verifier,
                "engine": config.identity(),
                "params": params.to_dict(),
                "judge": None if self.judge is None else self.judge.identity(),
            },
            scratch=(folder,),
            names={
                **policy.names,
                **({} if judge is None else {f"judge {n}": value for n, value in judge.names.items()}),
            },
        )

    def _continuations(
        self, number: int, inputs: Mapping[str, Path], begun: Callable[[], list[sherlock_pairs.Begun]]
    ) -> list[Step]:
        """Disturbed pictures with beginnings of responses, and how the policy goes on from them."""
        rounds, tails = self.rounds, self._tails(number)
        folder = tails.with_name("disturbed")

        def action() -> dict[str, Any]:
            seed = derived_seed(self.recipe.seed, number, "draw")
            items = begun()
            folder.mkdir(parents=True, exist_ok=True)
            made = sherlock_pairs.make_tails(items, folder, self.options, self.prompts, seed)
            sherlock_pairs.write_tails(tails, made)
            return {"beginnings": len(made), "not to be cut": len(items) - len(made)}

        settings = self._settings("preset", "places", "strengths", prompts=("ask",))
        return [
            Step(f"iter{number}/begin", action, inputs, (tails, folder), settings),
            rounds.sample(
                number,
                "rejected",
                lambda: [tail.request for tail in sherlock_pairs.read_tails(tails)],
                {"beginnings": tails, "pictures": folder},
                replace(rounds.params, n=self.options.tails),
                {},
            ),
        ]

    def _preferences(
        self, number: int, kind: str, inputs: Mapping[str, Path], better: Callable[[], list[sherlock_pairs.Better]]
    ) -> Step:
        policy = number - 1
        tails, rejected = self._tails(policy), self.rounds.iteration(policy) / "rejected.jsonl"

        def action() -> dict[str, Any]:
            built = sherlock_pairs.build_pairs(
                kind,
                better(),
                sherlock_pairs.read_tails(tails),
                read_samples(rejected),
                self.options,
                self.prompts,
                self.recipe.verifier,
                derived_seed(self.recipe.seed, number, "build"),
                iteration=policy,
                limit=token_limit(self.recipe),
            )
            sherlock_pairs.write_pairs(dataset(self.rounds, number).parent, DATASET, built.pairs)
            return {"rows": len(built.pairs), **_skipped(built.skipped)}

        files = {**inputs, "beginnings": tails, "rejected": rejected}
        settings = {
            **self._settings("gates", prompts=("ask", "correction")),
            "verifier": self.verifier,
            "cutoff_len": cutoff_len(self.recipe),
        }
        return Step(f"iter{number}/build", action, files, written(self.rounds, number), settings)


def _skipped(counts: Mapping[str, int]) -> dict[str, int]:
    return {f"skipped: {reason}": count for reason, count in counts.items()}
