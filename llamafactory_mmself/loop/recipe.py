# SPDX-License-Identifier: Apache-2.0
"""The YAML of a loop: base model, data, engine, method, iterations, and how to train."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from ..generate.config import SHARED
from ..recipes.options import check_types
from .steps import LoopError


Kind = TypeVar("Kind")
Method = Literal["r3v", "stl", "sherlock", "ares"]
Start = Literal["restart", "continue"]
Export = Literal["last", "all", "never"]
Form = Literal["cot", "direct", "answer", "tagged", "rationale"]

#: Sherlock's trainings: the form of responses, self-correction, and preferences offline and online.
PHASES = ("r0", "sft", "offline", "online")
#: ARES's trainings: reinforcement learning, corrections, and the answer adapter.
ARES_PHASES = ("rl", "sft", "answer")
#: Keys of a recipe that only Sherlock has.
SHERLOCK_ONLY = ("rounds", "judge", "online_data")

#: What else all rounds share: rows are built for one `cutoff_len`, and a round loads what another left.
ALIKE = frozenset({*SHARED, "cutoff_len", "finetuning_type", "freeze_multi_modal_projector", "template"})

# What the loop itself decides in the training YAML.
DECIDED = frozenset(
    {
        *("model_name_or_path", "adapter_name_or_path", "dataset", "dataset_dir", "output_dir", "do_train"),
        *("overwrite_output_dir", "resume_from_checkpoint"),
    }
)


@dataclass(frozen=True)
class Evaluation:
    """What is measured on the test questions after each round.

    Attributes:
        samples: samples a question for oracle, vote and self-select; 0: greedy answers only.
        temperature: of these samples; None: as in training.
        select: let the model select among its samples (r3v).
        spare_agreeing: where all samples give one answer, take it and do not ask; the published code asks.
        form: how test questions are asked: `cot`, `direct`, `answer` (see-think-answer) or `tagged` (Sherlock); None:
            as in training.
        turns: corrections of each greedy answer, one after the other (sherlock).
        tasks: tasks of `mmself eval`, answered greedily by each round's model; `TASK=PROMPT` gives one a prompt of its
            own.
        tasks_data: folder of their data, one folder a task; None: what MMSELF_BENCHMARKS names.
        tasks_limit: items of each task; None: all.
        tasks_judge: YAML of the engine that judges answers, for tasks that need a judge.
    """

    samples: int = 0
    temperature: float | None = None
    select: bool = True
    spare_agreeing: bool = False
    form: Form | None = None
    turns: int = 0
    tasks: tuple[str, ...] = ()
    tasks_data: str | None = None
    tasks_limit: int | None = None
    tasks_judge: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A run of the loop. Paths start from the working directory, as in LLaMA-Factory's YAMLs.

    Attributes:
        method: `r3v` (self-refine and self-select), `stl` (see, think, learn), `sherlock` (self-correction) or `ares`
            (sentence-level feedback and correction in turn).
        output_dir: folder of the run.
        base_model: model folder or hub name that the first samples come from and training starts from.
        template: LLaMA-Factory's chat template.
        train_data: questions to learn from: JSON rows with id, question, choices, answer, images.
        train: LLaMA-Factory's training arguments: a YAML file, or the keys themselves.
        test_data: held-out questions; without them nothing is measured.
        verifier: profile that checks answers, for example `geoqa` or `toy`; by default `letters` for R3V, and for STL
            `stl`, or `stl-nocaption` without captions; `tagged` for Sherlock.
        iterations: rounds of training; for Sherlock 1 is R0, 2 the SFT round, 3 offline, and all others are online.
        seed: seed of sampling, of shuffles and, unless `train` has one, of training.
        start: `restart`: every round trains the base model anew; `continue`: the last round's model.
        export: which rounds' adapters are merged into full models: `last`, `all` or `never`.
        engine: sampling engine: name, batch_size, workers ...
        sampling: n, temperature, top_p, top_k, max_new_tokens ...
        build: switches of the method's builder.
        prompts: prompt name -> a prompt file of your own.
        global_batch: rows of an optimizer step on all devices together; gradient accumulation follows from it. None
            leaves it to `train`.
        warmup: ShareGPT rows for a training before the first samples; they are part of every round's rows.
        evaluate: what is measured.
        rounds: `r0`, `sft`, `offline`, `online` -> training arguments of such rounds, over `train`'s, and
            perhaps a `global_batch` of their own (sherlock); for ARES `rl`, `sft`, `answer`, each perhaps with
            `preset`: the published hyper-parameters `base` or `large`.
        judge: engine that says whether online answers agree: name, model, template ...; without one, only answers in
            the same words do (sherlock).
        online_data: unlabelled questions of the online rounds; by default those that the two samples leave (sherlock).
    """

    method: Method
    output_dir: Path
    base_model: str
    template: str
    train_data: Path
    train: Mapping[str, Any]
    test_data: Path | None = None
    verifier: str = "letters"
    iterations: int = 3
    seed: int = 0
    start: Start = "restart"
    export: Export = "last"
    engine: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    global_batch: int | None = None
    warmup: Path | None = None
    evaluate: Evaluation = field(default_factory=Evaluation)
    rounds: Mapping[str, Any] = field(default_factory=dict)
    judge: Mapping[str, Any] = field(default_factory=dict)
    online_data: Path | None = None


def load_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe.

    Args:
        path: the YAML file.
        changes: values that replace the file's, dotted keys for nested ones (`sampling.n`).

    Raises:
        LoopError: naming the file, the key and the fix.
    """
    values = _read_yaml(path)
    for name, value in (changes or {}).items():
        *outer, last = name.split(".")
        place = values
        for key in outer:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise LoopError(f"{path}: `{name}` cannot be set, `{key}` holds {place!r}.")
        place[last] = value
    return make_recipe(values, str(path))


def make_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain values; `where` names their source in errors.

    Raises:
        LoopError: for unknown, missing and wrong keys, and for files that are not there.
    """
    _check_keys(values, fields(Recipe), where)
    given = dict(values)
    if isinstance(given["train"], str):
        given["train"] = _read_yaml(Path(given["train"]))
    for name in ("output_dir", "train_data", "test_data", "warmup", "online_data"):
        if given.get(name) is not None:
            given[name] = Path(str(given[name])).resolve()
    given["base_model"] = local_or_hub(str(given["base_model"]))
    for name in ("engine", "sampling", "build", "prompts", "train", "evaluate", "rounds", "judge"):
        if given.get(name) is None:
            given[name] = {}
        if not isinstance(given[name], Mapping):
            raise LoopError(f"{where}, key `{name}`: keys and values are expected, found {given[name]!r}.")
    given["prompts"] = {name: str(Path(str(file)).resolve()) for name, file in given["prompts"].items()}
    given["verifier"] = given.get("verifier") or _usual_verifier(given)
    given["train"] = _found_deepspeed(given["train"])
    given["rounds"] = {
        phase: _found_deepspeed(own) if isinstance(own, Mapping) else own for phase, own in given["rounds"].items()
    }
    given["evaluate"] = from_values(Evaluation, given["evaluate"], f"{where}, `evaluate`")
    recipe = Recipe(**given)
    _check_values(recipe, where)
    return recipe


def _found_deepspeed(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Training arguments whose DeepSpeed file is found from every working directory."""
    config = arguments.get("deepspeed")
    if not isinstance(config, str) or not Path(config).exists():
        return arguments
    return {**arguments, "deepspeed": str(Path(config).resolve())}


def _usual_verifier(values: Mapping[str, Any]) -> str:
    if values["method"] != "stl":
        return "tagged" if values["method"] == "sherlock" else "letters"
    return "stl" if values["build"].get("caption", True) else "stl-nocaption"


def local_or_hub(model: str) -> str:
    """A local folder as an absolute path, a hub name as it is."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def from_values(kind: type[Kind], values: Mapping[str, Any], where: str) -> Kind:
    """A dataclass from a part of a recipe; lists become tuples.

    Raises:
        LoopError: for a key that the dataclass does not have.
    """
    _check_keys(values, fields(kind), where)  # type: ignore[arg-type]
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        made = kind(**given)
        check_types(made)
    except (TypeError, ValueError) as error:
        raise LoopError(f"{where}: {error}") from error
    return made


def _check_keys(values: Mapping[str, Any], known: tuple[Field[Any], ...], where: str) -> None:
    names = [item.name for item in known]
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else f" Known keys: {', '.join(names)}."
            raise LoopError(f"{where}: unknown key `{name}`.{hint}")
    for item in known:
        if item.default is MISSING and item.default_factory is MISSING and values.get(item.name) is None:
            raise LoopError(f"{where}: the key `{item.name}` is missing.")


def _check_values(recipe: Recipe, where: str) -> None:
    for name, kind in (("method", Method), ("start", Start), ("export", Export)):
        value = vars(recipe)[name]
        if value not in get_args(kind):
            raise LoopError(f"{where}, key `{name}`: {value!r} is none of {', '.join(get_args(kind))}.")
    for name in ("iterations", "seed"):
        _check_whole(vars(recipe)[name], 0, f"{where}, key `{name}`")
    _check_sherlock(recipe, where)
    _check_tasks(recipe.evaluate, where)
    for name in ("train_data", "test_data", "warmup", "online_data"):
        path = vars(recipe)[name]
        if path is not None and not path.is_file():
            raise LoopError(f"{where}, key `{name}`: there is no file {path}.")
    if recipe.engine.get("name") == "openai" and (recipe.iterations or recipe.warmup):
        raise LoopError(
            f"{where}, `engine`: an endpoint goes on serving the model that it has, so later rounds would not be "
            "sampled. Use hf or vllm, or `iterations: 0` to measure the endpoint's model."
        )
    trained = {"train": recipe.train, **{f"rounds.{phase}": own for phase, own in recipe.rounds.items()}}
    for place, given in {**trained, "engine": recipe.engine, "judge": recipe.judge}.items():
        values = {**given, **dict(given.get("llamafactory") or {}), **dict(given.get("vllm") or {})}
        if secrets := sorted(name for name in values if name.endswith("_token") and values[name]):
            raise LoopError(
                f"{where}, `{place}`: {', '.join(secrets)} would be written to the run's files. Set the environment "
                "variable HF_TOKEN instead."
            )
    for place, given in trained.items():
        _check_training(given, recipe, f"{where}, `{place}`")
        _check_batch(given, recipe, where, place)


def _check_tasks(evaluate: Evaluation, where: str) -> None:
    given = [name for name in ("tasks_data", "tasks_limit", "tasks_judge") if vars(evaluate)[name] is not None]
    if given and not evaluate.tasks:
        raise LoopError(f"{where}, `evaluate`: {', '.join(given)} would do nothing without `tasks`. Remove them.")
    if evaluate.tasks_limit is not None:
        _check_whole(evaluate.tasks_limit, 1, f"{where}, key `evaluate.tasks_limit`")


def _check_whole(value: Any, least: int, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise LoopError(f"{where}: a whole number from {least} on is expected, found {value!r}.")


def _check_training(arguments: Mapping[str, Any], recipe: Recipe, where: str) -> None:
    if arguments.get("template", recipe.template) != recipe.template:
        raise LoopError(
            f"{where}: template {arguments['template']} is not the recipe's {recipe.template}; prompts of "
            "sampling and training would differ. Remove it."
        )
    if arguments.get("save_only_model"):
        raise LoopError(f"{where}: with save_only_model a killed training cannot go on. Remove it.")
    if taken := sorted(DECIDED & arguments.keys()):
        raise LoopError(f"{where}: the loop sets {', '.join(taken)} itself; remove them.")


def _check_batch(given: Mapping[str, Any], recipe: Recipe, where: str, place: str) -> None:
    """Sees that `global_batch` is a number of rows, and that nothing else says what it decides."""
    own = place != "train" and "global_batch" in given
    batch = given["global_batch"] if own else recipe.global_batch
    if batch is None:
        return
    _check_whole(batch, 1, f"{where}, key `{place}.global_batch`" if own else f"{where}, key `global_batch`")
    if "gradient_accumulation_steps" in {**recipe.train, **given}:
        raise LoopError(
            f"{where}, `{place}`: gradient_accumulation_steps follows from `global_batch`; remove one of them."
        )


def _check_sherlock(recipe: Recipe, where: str) -> None:
    phased = {"sherlock": PHASES, "ares": ARES_PHASES}.get(recipe.method, ())
    if recipe.method != "sherlock":
        only = [name for name in SHERLOCK_ONLY if not (name == "rounds" and phased)]
        given = [name for name in only if vars(recipe)[name]] + ["evaluate.turns"] * bool(recipe.evaluate.turns)
        if given:
            raise LoopError(
                f"{where}: {', '.join(given)} would do nothing: only method sherlock has them. Remove them."
            )
    if not phased:
        return
    first = "R0 is the warm-up" if recipe.method == "sherlock" else "train the base model before"
    for name, reason in (("warmup", first), ("start", "each round has its own start")):
        if vars(recipe)[name] not in (None, "restart"):
            raise LoopError(
                f"{where}, key `{name}`: it would do nothing in method {recipe.method}: {reason}. Remove it."
            )
    for phase, arguments in recipe.rounds.items():
        place = f"{where}, `rounds.{phase}`"
        if phase not in phased:
            raise LoopError(f"{where}, `rounds`: {phase!r} is none of {', '.join(phased)}.")
        if not isinstance(arguments, Mapping):
            raise LoopError(f"{place}: keys and values are expected, found {arguments!r}.")
        if shared := sorted(ALIKE & arguments.keys()):
            raise LoopError(f"{place}: {', '.join(shared)} has to be the same in all rounds; put it under `train`.")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LoopError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise LoopError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise LoopError(f"{path}: keys and values are expected, found {type(values).__name__}.")
    return values
