# SPDX-License-Identifier: Apache-2.0
"""Every command in the README and the docs is run, read by its own parser, or listed with a reason."""

import argparse
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from llamafactory_mmself.cli import main, make_parser
from tests.documented.shell import PAGES, ROOT, SHELLS, Command, blocks, commands_of
from tests.documented.stand_ins import STAND_INS, Place, answer


@dataclass(frozen=True)
class Reason:
    """Why a command is not run here, and the test that does something of the kind, if there is one."""

    why: str
    test: str = ""


DECLARED: Mapping[str, Reason] = {
    "git clone": Reason("needs a network"),
    "git checkout": Reason("of LLaMA-Factory's sources", "tests/packaging/test_source_patch.py"),
    "patch": Reason("changes an installed LLaMA-Factory", "tests/packaging/test_source_patch.py"),
    "cd": Reason("has no effect outside of a shell"),
    "export": Reason("has no effect outside of a shell", "tests/e2e/test_cli.py"),
    "pip install": Reason("installs", "tests/packaging/test_install.py"),
    "python -m venv": Reason("installs", "tests/lmms_eval/test_real.py"),
    ".venv-lmms-eval/bin/python -m pip": Reason("installs", "tests/lmms_eval/test_real.py"),
    "vllm serve": Reason("vLLM has an environment of its own", "tests/vllm/test_serve.py"),
    "llamafactory-cli webui": Reason("serves until it is stopped", "tests/webui/pages/test_loop_tab.py"),
}

KINDS: Mapping[str, Callable[[Command], bool]] = {
    "mmself": lambda command: command.words[0] == "mmself",
    "training": lambda command: command.begins("llamafactory-cli train"),
    "make": lambda command: command.words[0] == "make",
    "script": lambda command: command.words[0] == "python" and command.words[1].endswith(".py"),
    "declared": lambda command: any(command.begins(words) for words in DECLARED),
}

# Who reads the variables that stand in front of commands: a file of LLaMA-Factory, or one of this project.
VARIABLES: Mapping[str, str] = {
    **dict.fromkeys(("FORCE_TORCHRUN", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"), "launcher.py"),
    "USE_RAY": "extras/misc.py",
    "MMSELF_SCREENSHOTS": "tests/webui/pages/conftest.py",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "tests/vllm/test_online.py",
}

# Flags that go behind documented ones, where a command would take minutes; the last value of a flag counts.
SMALLER: Mapping[str, str] = {
    "mmself toy data": "--train 4 --test 2 --captions 1",
    "mmself toy data --train 0": "--prompts 2",
    "mmself toy start": "--rows 8 --epochs 1",
    "mmself toy captioner": "--rows 8 --epochs 1",
    "mmself toy reasoner": "--rows 8 8 --epochs 1 1",
    "mmself loop examples/r3v/toy.yaml": "--set train.max_steps=1",
    "mmself loop examples/sherlock/toy.yaml": "--set iterations=1 train.max_steps=1 build.n=1",
    "mmself loop examples/ares/toy.yaml": "--set train.max_steps=1 rounds.rl.max_steps=1 rounds.rl.rollout_prompts=2",
    "mmself loop r3v-geoqa": "--dry_run",
    "mmself loop stl": "--dry_run",
    "mmself eval --task": "--limit 2 --max_new_tokens 4 --draws 20",
    "mmself eval --via lmms-eval": f"--lmms_python {sys.executable}",
    "mmself correct": "--max_new_tokens 8",
    "mmself sample": "--max_new_tokens 8",
    "mmself select --questions": "--max_candidates 2 --votes 1 --max_new_tokens 8",
    "mmself select --ckpt_dir": "--max_select_num 2",
    "mmself build sherlock split": "--n 2",
    "mmself build sherlock candidates": "--max_new_tokens 8",
    "mmself build ovip": "--n 2 --max_new_tokens 8",
    "mmself report --compare": "--draws 20",
    "llamafactory-cli train examples/mdpo/orm_tiny.yaml": "max_steps=1 eval_steps=99 plot_loss=false",
    "llamafactory-cli train --stage mdpo --do_train": "--max_steps 1 --rollout_n 4 --rollout_max_new_tokens 8",
    "llamafactory-cli train examples/mdpo/online_orm_toy.yaml": "max_steps=1 exp_per_batch=2 rollout_n=4",
}

# Commands that end otherwise than with 0: with this status, and these words.
ENDS: Mapping[str, tuple[int, str]] = {
    "mmself eval --task rule": (1, "Not run"),  # only some of the benchmarks are there
    "mmself eval --task judge": (1, "Not run"),
    # A model of random weights writes nothing in sections.
    "mmself build sherlock sft": (2, "would be empty"),
    "mmself build sherlock offline --questions data/sherlock_a.json --out data --name sherlock_offline "
    "--continuations": (2, "would be empty"),
    "mmself report --compare runs/eval/base runs/eval/mine": (2, "runs/eval/mine holds no results"),
    "mmself eval --via lmms-eval": (2, "has no lmms-eval. Install it there"),
}

# What stands for something that cannot lie in a folder.
ADDRESS = "http://localhost:8000/v1"

ALL = [command for page in PAGES for command in commands_of(page)]


def of_kind(kind: str) -> list[Command]:
    return [command for command in ALL if KINDS[kind](command)]


def test_every_command_is_of_one_kind() -> None:
    assert len(ALL) > 100
    for command in ALL:
        kinds = [kind for kind, fits in KINDS.items() if fits(command)]
        assert len(kinds) == 1, (
            f"{command}\nis {' and '.join(kinds) or 'of no kind that is tested'}. Name its first words with a reason "
            f"in DECLARED of {Path(__file__).name}, or add a kind to KINDS and a test of that kind."
        )


def test_commands_stand_in_blocks_that_say_so() -> None:
    programs = {command.words[0] for command in ALL}
    for page in PAGES:
        for block in blocks((ROOT / page).read_text(encoding="utf-8")):
            if block.language not in SHELLS:
                hidden = [line for line in block.lines if line.removeprefix("$ ").split(" ")[0] in programs]
                assert not hidden, f"{page}:{block.line}: mark this block as bash, so that its commands are tested"


def test_the_tables_speak_of_commands_that_are_there() -> None:
    for words in (*DECLARED, *SMALLER, *ENDS):
        assert any(command.begins(words) for command in ALL), words
    assert {name for command in ALL for name in command.environment} == VARIABLES.keys()
    assert set(STAND_INS) <= set(PAGES)
    for reason in DECLARED.values():
        assert not reason.test or (ROOT / reason.test).is_file(), reason


def test_variables_in_front_of_commands_are_read_by_somebody() -> None:
    import llamafactory

    for name, file in VARIABLES.items():
        folder = ROOT if file.startswith("tests/") else Path(llamafactory.__file__).parent
        assert f'"{name}"' in (folder / file).read_text(), (name, file)


@pytest.mark.parametrize("target", sorted({command.words[1] for command in of_kind("make")}))
def test_make_knows_its_targets(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Parsed(Exception):
    """A script has got as far as its arguments."""


@pytest.mark.parametrize("command", of_kind("script"), ids=str)
def test_scripts_take_their_arguments(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parsed(self: argparse.ArgumentParser, args: Sequence[str] | None = None, namespace: object = None) -> None:
        parse(self, args, namespace)
        self.format_help()
        raise Parsed

    script = ROOT / command.words[1]
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr(sys, "argv", list(command.words[1:]))
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(Parsed):
        runpy.run_path(str(script), run_name="__main__")


def spelt_out(command: Command, before: Sequence[Command]) -> list[str]:
    """The words, with those that `...` stands for: flags of the page's last full command of the same name."""
    words = list(command.words)
    if "..." not in words:
        return words
    full = next(
        other for other in reversed(before) if other.words[:2] == command.words[:2] and "..." not in other.words
    )
    flags: list[list[str]] = []
    for word in full.words[2:]:
        if word.startswith("--"):
            flags.append([])
        flags[-1].append(word)
    place = words.index("...")
    return [*words[:place], *(word for flag in flags if flag[0] not in words for word in flag), *words[place + 1 :]]


def smaller(command: Command, words: Sequence[str]) -> list[str]:
    """The words with what makes it short behind them."""
    return [*words, *(more for begin, text in SMALLER.items() if command.begins(begin) for more in text.split())]


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)])
def test_arguments_are_ones_that_the_parser_takes(page: str) -> None:
    before: list[Command] = []
    for command in commands_of(page):
        if KINDS["mmself"](command):
            make_parser().parse_args(spelt_out(command, before)[1:])
            before.append(command)


def llamafactory(arguments: Sequence[str]) -> None:
    """`llamafactory-cli` in this process."""
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.train.tuner import export_model, run_exp

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["llamafactory-cli", *arguments[1:]])
        {"train": run_exp, "export": export_model}[arguments[0]]()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the shipped examples and data, where commands that train do so in this process."""
    import torch

    from llamafactory_mmself.loop import training
    from llamafactory_mmself.toyworld import training as toy_training

    for name in ("examples", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "llamafactory_mmself").symlink_to(ROOT / "llamafactory_mmself")  # recipes name its prompts
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_run", lambda command, config, *more: llamafactory([command, str(config)]))
    monkeypatch.setattr(toy_training, "_llamafactory", lambda config, log: llamafactory(["train", str(config)]))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    environment, threads = dict(os.environ), torch.get_num_threads()
    torch.set_num_threads(1)  # more are slower with models so small
    yield tmp_path
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run_mmself(command: Command, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Runs a command of ours, and looks at how it ends."""
    status, said = next((end for begin, end in ENDS.items() if command.begins(begin)), (0, ""))
    capsys.readouterr()
    try:
        found = main(words[1:])
    except SystemExit as error:
        found = error.code
    told = capsys.readouterr()
    assert (found, said in told.out + told.err) == (status, True), f"{command}\n{told.out}\n{told.err}"
    assert command.shown in told.out, f"{command} says something else than the page:\n{told.out}"


def run_training(command: Command, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Lets LLaMA-Factory's parser read a training, and trains where `SMALLER` makes it short."""
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.hparams import get_train_args
    from llamafactory.hparams.parser import read_args

    if words[-1] == "-h":
        with pytest.raises(SystemExit) as end:
            llamafactory(words[1:])
        assert end.value.code in (0, None) and "--strategy" in capsys.readouterr().out
    elif any(command.begins(begin) for begin in SMALLER):
        llamafactory(words[1:])
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words[1:])
            assert get_train_args(read_args())[3].plugin_stage, command


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "page", sorted({command.page for kind in ("mmself", "training") for command in of_kind(kind)})
)
def test_a_page_from_top_to_bottom(page, checkout, tiny_models, serve, capsys) -> None:
    address = serve(answer).base
    for make in STAND_INS.get(page, ()):
        make(Place(checkout, tiny_models, address))
    before: list[Command] = []
    for command in commands_of(page):
        words = [word.replace(ADDRESS, address) for word in smaller(command, spelt_out(command, before))]
        if KINDS["mmself"](command):
            run_mmself(command, words, capsys)
        elif KINDS["training"](command):
            run_training(command, words, capsys)
        before.append(command)
