# SPDX-License-Identifier: Apache-2.0
"""The steps of ARES: reinforcement learning and correction in turn, and an answer adapter at the end.

| round | starts from | learns | what its policy does for the next round |
|---|---|---|---|
| 1, 3, ..., RL | the round before | scores of its own sentences | greedy rationales of the training questions |
| 2, 4, ..., SFT | the round before | its rationales, corrected by the teacher | the same, before the answer adapter |
| the last, if it is the third, the fifth, ... | the round before | answers from its rationales | |

The model that a round starts from is its reference. Adapters are merged before the next round; the answer adapter
stays apart, so that one model gives rationales with it off and answers with it on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data.questions import QUESTION_COLUMNS, Question, write_questions
from ..generate.jobs import read_samples
from ..generate.requests import question_prompt, question_requests
from ..generate.teacher import Teacher, load_teacher
from ..generate.types import Request
from ..prompts import Prompt, load_prompt
from ..recipes import ares
from ..recipes.datasets import register_dataset
from ..recipes.examples import write_dataset
from .ares_presets import with_preset
from .method import DATASET, Method, dataset, written
from .recipe import ARES_PHASES, Form, Recipe
from .rounds import Rounds
from .sampler import Sampler
from .settings import cutoff_len
from .steps import LoopError, Step


RL, SFT, ANSWER = ARES_PHASES


def usual_phase(number: int, last: int) -> str:
    """What a round is: RL and SFT in turn; an odd last one from the third on trains the answer adapter."""
    if number % 2 == 0:
        return SFT
    return ANSWER if number == last and number > 1 else RL


@dataclass(frozen=True)
class AresBuild:
    """The recipe's `build`.

    Attributes:
        teacher: who scores and corrects: a YAML file, a .jsonl file of scores, or module:function.
        score_test: let the teacher score the held-out rationales of each round, too.
        phases: what each round is: `rl`, `sft` (corrections) or, the last one, `answer`; empty: RL and SFT in turn.
        options: see `recipes.ares.AresOptions`.
    """

    teacher: str
    score_test: bool
    phases: tuple[str, ...]
    options: ares.AresOptions

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> AresBuild:
        """Reads the recipe's values.

        Raises:
            LoopError: there is no teacher, or a phase has no sense.
        """
        rest = dict(values)
        teacher, score_test = rest.pop("teacher", None), rest.pop("score_test", False)
        phases = rest.pop("phases", None) or ()
        if not isinstance(phases, list | tuple) or any(name not in ARES_PHASES for name in phases):
            raise LoopError(f"`build.phases`: a list of {', '.join(ARES_PHASES)} is expected, found {phases!r}.")
        if ANSWER in phases[:-1]:
            raise LoopError("`build.phases`: `answer`, whose adapter stays apart, has to be the last.")
        if not isinstance(teacher, str) or not teacher:
            raise LoopError("`build.teacher` is missing: a YAML file, a .jsonl file of scores, or module:function.")
        place = str(Path(teacher).resolve()) if Path(teacher).is_file() else teacher
        return cls(place, bool(score_test), tuple(phases), ares.AresOptions.from_dict(rest))

    @property
    def files(self) -> dict[str, Path]:
        """The teacher's file, if it is one: what it has made is made again when that changes."""
        path = Path(self.teacher)
        return {"teacher": path} if path.is_file() else {}


class AresRounds(Rounds):
    """Makes the steps of a run, each round from the one before."""

    def __init__(self, recipe: Recipe, sampler: Sampler) -> None:
        super().__init__(recipe, sampler)
        self.build_options = AresBuild.read(recipe.build)
        self.rationale: Prompt = question_prompt(str(recipe.prompts.get("rationale", "ares_rationale")))
        shown = ("question", "context", "options", "rationale")
        self.answer = load_prompt(recipe.prompts.get("answer"), "ares_answer.txt", shown)
        if unknown := sorted(recipe.prompts.keys() - {"rationale", "answer"}):
            raise LoopError(f"There is no prompt {unknown[0]!r} in method ares. The prompts are: rationale, answer.")
        phases = self.build_options.phases
        if phases and len(phases) != recipe.iterations:
            raise LoopError(f"`build.phases` names {len(phases)} rounds, `iterations` says {recipe.iterations}.")
        for name in ARES_PHASES:
            self._phase_arguments(name)
        if self.phase(recipe.iterations) == ANSWER and self.serves_merged:
            raise LoopError(
                "vLLM cannot serve the answer adapter: it changes the projector (`freeze_multi_modal_projector: "
                "false`). Freeze the projector, use the engine hf, or an even number of `iterations`."
            )
        if self.phase(recipe.iterations) == ANSWER and not self.lora:
            raise LoopError(
                "The answer adapter needs `finetuning_type: lora` in `train`: the model without it gives rationales. "
                "Use lora, or an even number of `iterations`, which ends with corrections."
            )

    def phase(self, number: int) -> str:
        """What a round is; the one after the last is none."""
        if phases := self.build_options.phases:
            return phases[number - 1] if 0 < number <= len(phases) else ""
        return usual_phase(number, self.recipe.iterations)

    def base(self, number: int) -> str:
        """See `Rounds.base`."""
        if number <= 1:
            return self.recipe.base_model
        return str(self.iteration(number - 1) / ("merged" if self.lora else "model"))

    def continues(self, number: int) -> bool:
        """See `Rounds.continues`."""
        return number >= 1

    def merges(self, number: int) -> bool:
        """See `Rounds.merges`; the answer adapter stays apart."""
        return (number == 0 or self.phase(number) != ANSWER) and super().merges(number)

    def own_arguments(self, number: int) -> dict[str, Any]:
        """See `Rounds.own_arguments`."""
        name = self.phase(number)
        own: dict[str, Any] = {"stage": {RL: "ares_ppo", SFT: "reflection_sft", ANSWER: "sft"}[name]}
        if name == RL:
            prompt = self.recipe.prompts.get("rationale", "ares_rationale")
            own |= {"teacher": self.build_options.teacher, "rollout_prompt": str(prompt)}
        return {**own, **self._phase_arguments(name)}

    def _phase_arguments(self, name: str) -> dict[str, Any]:
        return with_preset(name, self.recipe.rounds.get(name, {}))


class Ares(Method):
    """The rounds of ARES."""

    form: Form = "rationale"
    rounds: AresRounds

    def __init__(self, rounds: AresRounds) -> None:
        super().__init__(rounds)
        self.rounds = rounds
        self.options = rounds.build_options.options

    @property
    def _answers(self) -> Path:
        """Where a remote teacher's answers are kept, if it does not say."""
        return self.rounds.folder / "teacher.jsonl"

    def ask(self, questions: Sequence[Question], form: Form) -> list[Request]:
        """See `Method.ask`.

        Raises:
            LoopError: the form is another than `rationale`.
        """
        if form != "rationale":
            raise LoopError(f"`evaluate.form` {form!r} does not belong to method ares; remove it.")
        return question_requests(questions, self.rounds.rationale)

    def prompt_settings(self, form: Form) -> dict[str, Any]:
        """See `Method.prompt_settings`."""
        return {"form": form, "prompt": self.rounds.rationale.digest}

    def learn(self, number: int) -> list[Step]:
        """Greedy rationales of the training questions, for corrections and for the answer adapter."""
        rounds = self.rounds
        if rounds.phase(number + 1) not in (SFT, ANSWER):
            return []
        return [
            rounds.sample(
                number,
                "rationales",
                lambda: self.ask(rounds.train_questions, "rationale"),
                {"questions": self.recipe.train_data},
                rounds.params.greedy,
                self.prompt_settings("rationale"),
            )
        ]

    def build(self, number: int) -> Step:
        """See `Method.build`."""
        name = self.rounds.phase(number)
        return self._questions(number) if name == RL else self._rows(number, name)

    def _questions(self, number: int) -> Step:
        """The questions to sample for, as a data set."""
        rounds, path = self.rounds, dataset(self.rounds, number)

        def action() -> dict[str, Any]:
            write_questions(path, rounds.train_questions)
            entry = {"file_name": path.name, "formatting": "sharegpt", "columns": QUESTION_COLUMNS}
            register_dataset(path.with_name("dataset_info.json"), DATASET, entry)
            return {"questions": len(rounds.train_questions)}

        inputs = {"questions": self.recipe.train_data}
        return Step(f"iter{number}/build", action, inputs, written(rounds, number))

    def _rows(self, number: int, name: str) -> Step:
        rounds = self.rounds
        samples = rounds.iteration(number - 1) / "rationales.jsonl"

        def action() -> dict[str, Any]:
            found = read_samples(samples)
            if name == ANSWER:
                built = ares.answer_rows(rounds.train_questions, found, rounds.answer, number - 1)
                counts: Mapping[str, float] = {}
            else:
                teacher = load_teacher(rounds.build_options.teacher, self._answers)
                pairs = ares.lessons_to_correct(rounds.train_questions, found, self.options)
                corrected = teacher.correct([lesson for lesson, _ in pairs])
                _check_answered(teacher)
                built = ares.correction_rows(pairs, corrected, rounds.rationale, self.options, number - 1)
                counts = {f"teacher {label}": value for label, value in teacher.counts().items()}
            write_dataset(dataset(rounds, number).parent, DATASET, built.examples)
            return {
                "rows": len(built.examples),
                **{f"skipped: {reason}": count for reason, count in built.skipped.items()},
                **counts,
            }

        prompt = rounds.answer if name == ANSWER else rounds.rationale
        taught = {} if name == ANSWER else {"teacher": rounds.build_options.teacher, "options": asdict(self.options)}
        settings = {"prompt": prompt.digest, "cutoff_len": cutoff_len(self.recipe), **taught}
        inputs = {"questions": self.recipe.train_data, "rationales": samples}
        if name == SFT:
            inputs |= rounds.build_options.files
        return Step(f"iter{number}/build", action, inputs, written(rounds, number), settings)

    def evaluation(self, number: int) -> list[Step]:
        """Rationales and the answers that they announce; in the last round the adapter's answers to rationales."""
        if number and self.rounds.phase(number) == ANSWER:
            return self._answered(number)
        steps = super().evaluation(number)
        return [steps[0], self._scored(number), *steps[1:]] if self.rounds.build_options.score_test else steps

    def _answered(self, number: int) -> list[Step]:
        rounds, recipe = self.rounds, self.recipe
        assert recipe.test_data is not None
        earlier = rounds.iteration(number - 1) / "test_greedy.jsonl"

        def requests() -> list[Request]:
            return ares.answer_requests(rounds.test_questions, read_samples(earlier), rounds.answer)

        inputs = {"questions": recipe.test_data, "rationales": earlier}
        asked = {"form": "answer", "prompt": rounds.answer.digest}
        return [
            rounds.sample(number, "test_greedy", requests, inputs, rounds.params.greedy, asked),
            rounds.check(number, "test_greedy", recipe.test_data, lambda: rounds.test_questions),
            rounds.score(number, ["test_greedy"]),
        ]

    def _scored(self, number: int) -> Step:
        """The teacher's scores of the held-out rationales."""
        rounds = self.rounds
        assert self.recipe.test_data is not None
        samples, out = (rounds.iteration(number) / name for name in ("test_greedy.jsonl", "test_sentences.jsonl"))

        def action() -> dict[str, Any]:
            teacher = load_teacher(rounds.build_options.teacher, self._answers)
            samples_read = read_samples(samples)
            figures = ares.score_samples(rounds.test_questions, samples_read, teacher, self.options, out)
            _check_answered(teacher)
            return dict(figures)

        return Step(
            f"iter{number}/test_sentences",
            action,
            {"questions": self.recipe.test_data, "samples": samples, **rounds.build_options.files},
            (out,),
            {"teacher": rounds.build_options.teacher, "options": asdict(self.options)},
        )


def _check_answered(teacher: Teacher) -> None:
    """A step is not done while lessons are lacking that the teacher can still answer.

    Raises:
        LoopError: it was away.
    """
    if lacking := int(teacher.counts().get("unanswered", 0)):
        raise LoopError(
            f"the teacher has not answered {lacking} lessons. See that it is up and run the same command again; what "
            "it has answered is not asked again."
        )
