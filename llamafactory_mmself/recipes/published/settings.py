# SPDX-License-Identifier: Apache-2.0
"""Published commands and YAML files, as training YAML of this package."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ...files import read_text
from ..records import RecipeError


@dataclass
class Settings:
    """A training YAML in the making.

    Attributes:
        values: its keys.
        notes: what was left out or changed, a line each.
    """

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, name: str, why: str) -> None:
        """Leaves a key out, if it is there, and notes why."""
        if name in self.values:
            self.notes.append(f"{name}: {self.values.pop(name)} is left out: {why}.")

    def rename(self, old: str, new: str) -> None:
        """Gives a key, if it is there, its name here."""
        if old in self.values:
            self.values[new] = self.values.pop(old)
            self.notes.append(f"{old} is called {new} here.")

    def to_yaml(self, head: str) -> str:
        """The file, with the notes on top."""
        comments = [head, *self.notes]
        return "".join(f"# {line}\n" for line in comments) + "\n" + yaml.safe_dump(self.values, sort_keys=False)


def read_command(text: str, what: str) -> dict[str, Any]:
    """The flags of a shell command, `--name value`, `--name=value`, `--switch` or `name=value`, with YAML's types.

    Args:
        text: a script; the last command in it that has flags counts. Comments and variables in front are passed over.
        what: for errors.

    Raises:
        RecipeError: there is no such command, or quotes do not match.
    """
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise RecipeError(f"{what}: {line.strip()[:60]!r} cannot be read as a command ({error}).") from error
        if any(word.startswith("--") for word in words) or sum("=" in word for word in words) > 1:
            commands.append(words)
    if not commands:
        raise RecipeError(f"{what}: no command with flags such as --stage or name=value is in it.")
    return _flags(commands[-1])


def _flags(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    place = next((n for n, word in enumerate(words) if not _assigns_variable(word)), 0)
    while place < len(words):
        word = words[place]
        place += 1
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and not equals:
            values = []
            while place < len(words) and not words[place].startswith("--"):
                values.append(words[place])
                place += 1
            value = ",".join(values) if values else "true"
        elif not equals:
            continue  # the program and its parts
        found[name.replace("-", "_")] = _typed(value)
    return found


def _assigns_variable(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isupper()


def _typed(value: str) -> Any:
    try:
        return float(value) if "e" in value.lower() and value[:1].isdigit() else yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        return value


_LOST = "the published code does not read it"


def ovip(flags: Mapping[str, Any]) -> Settings:
    """OViP's command: names and meanings are the same, so that little changes."""
    found = Settings(dict(flags))
    for name in ("test", "test_output_name", "test_dataset_name", "iter_training"):
        found.drop(name, "a switch for debugging, or one that nothing reads")
    strategy = str(found.values.get("strategy", "sft"))
    if strategy.startswith("online-") or strategy == "grpo":
        found.drop("dataset", "online strategies read ds_path alone")
        found.drop("dataset_dir", "online strategies read ds_path alone")
        found.values.setdefault("services", "services.yaml")
        found.notes.append("services names judge, describer and painter: docs/services.md has the file.")
    if "output_dir" in found.values:
        found.notes.append("output_dir is where the run goes; the published code put it under saves/.")
    if not found.values.get("bf16") and not found.values.get("fp16"):
        found.notes.append("Weights stay in the checkpoint's precision, as published; bf16: true is the usual choice.")
    found.values["stage"] = "mdpo"
    return found


def sherlock(values: Mapping[str, Any]) -> Settings:
    """Sherlock's YAML, in which its training was stage dpo with `pref_loss: sr`."""
    found = Settings(dict(values))
    if found.values.get("stage") not in (None, "dpo"):
        found.notes.append(f"The stage {found.values['stage']} is as it was.")
        return found
    found.values["stage"] = "sherlock_dpo"
    found.drop("pref_loss", "the stage has one loss, which the published code calls sr")
    if "preset" not in found.values and "refine_beta" not in found.values:
        found.values["preset"] = "published"
        found.notes.append("preset: published has the published code's weights of terms; paper has the paper's.")
    if str(found.values.get("template", "")).startswith("llama3"):
        found.notes.append("template counts here, the published code wrote Llama 3's turns whatever it said.")
    return found


#: ARES's flags -> ours; None: it has no counterpart, with the reason in `_ARES_LOST`.
_ARES = {
    "k_actions": "rollout_n",
    "top_k": "rollout_top_k",
    "rl_epochs": "ppo_epochs",
    "ga_step": "gradient_accumulation_steps",
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "clip_range": "clip_range",
    "gamma": "gamma",
    "lam": "gae_lambda",
    "vf_coef": "value_coef",
    "init_kl_coef": "kl_coef",
    "neutral_score": "neutral_score",
    "adv_normalization": "whiten_advantages",
    "seed": "seed",
}
_ARES_LOST = {
    "top_p": _LOST,
    "continue_train": "interrupted runs go on by themselves",
    "img_type": "pictures are shown to the model as they are",
    "caption_file": "`mmself build ares captions` writes captions",
    "model": "published checkpoints are T5 models; name a vision-language model",
    "ref_model": "published checkpoints are T5 models; the reference is the start unless ref_model says otherwise",
}


def ares(flags: Mapping[str, Any]) -> Settings:
    """The command of ARES's reinforcement learning."""
    given = dict(flags)
    found = Settings({"stage": "ares_ppo", "do_train": True, "lr_scheduler_type": "constant"})
    for name, ours in _ARES.items():
        if name in given:
            found.values[ours] = given.pop(name)
    samples = int(found.values.get("rollout_n", 3))
    if "rl_batch_size" in given:
        size = int(given.pop("rl_batch_size"))
        prompts = max(1, size // samples)
        found.values["per_device_train_batch_size"] = prompts
        steps = int(found.values.get("gradient_accumulation_steps", 1))
        found.values["gradient_accumulation_steps"] = max(1, round(size * steps / (prompts * samples)))
        found.notes.append(
            f"rl_batch_size: {size} samples are {prompts} prompt(s) with {samples} samples each; a step has as many "
            "samples as before."
        )
    if str(given.pop("do_sample", "true")).lower() in ("false", "0"):
        found.notes.append("do_sample false means one and the same rationale k times; here sampling is always on.")
    for name in sorted(given):
        why = _ARES_LOST.get(name, "it has no counterpart")
        found.notes.append(f"{name}: {given[name]} is left out: {why}.")
    for name, about in (("model_name_or_path", "a vision-language model"), ("dataset", "of `mmself data scienceqa`")):
        found.notes.append(f"To be added: {name} ({about}).")
    found.notes.append("To be added: template, output_dir, teacher (docs/ares.md).")
    return found


READERS: Mapping[str, Callable[[Mapping[str, Any]], Settings]] = {"ovip": ovip, "sherlock": sherlock, "ares": ares}


def convert(system: str, path: Path) -> Settings:
    """Reads a published command or YAML file.

    Args:
        system: a key of `READERS`.
        path: a YAML file if its name ends so, else a script.

    Raises:
        RecipeError, FileError: it is neither.
    """
    text = read_text(path)
    if path.suffix not in (".yaml", ".yml"):
        return READERS[system](read_command(text, str(path)))
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: keys and values are expected.")
    return READERS[system](values)
