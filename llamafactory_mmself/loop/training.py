# SPDX-License-Identifier: Apache-2.0
"""Training and merging as a user would start them: `llamafactory-cli` on a YAML, in a process group of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from ..files import FileError, read_json, write_json, write_text
from .steps import LoopError


_POLL = 0.5  # seconds between looks at a child process
_TAIL = 25  # lines of a failed command's log that an error shows
_ENTRY = 4096  # bytes; a line of the training log is shorter
_FULL = re.compile(
    r"(?:No space left on device|Disk quota exceeded|File too large|\bos error (?:28|122|27)\b"
    r"|inline_container\.cc:\d+\] \. unexpected pos)"  # torch.save
    r"(?:: '(?P<file>[^']+)')?"
)
_ROOM = 1 << 20  # bytes; with less, a disk is full
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin")
_WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def train(arguments: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """Trains with LLaMA-Factory, or goes on from the newest complete checkpoint of a training that was killed.

    Args:
        arguments: all training arguments, `output_dir` among them.
        config: where to write them; the log lies beside it.

    Returns:
        Figures: steps, training loss.

    Raises:
        LoopError: the training failed; the message ends with the log's last lines. If the disk was full, it names the
            file that found no room; complete checkpoints are kept, and the next call goes on from them.
    """
    output = Path(arguments["output_dir"])
    _stop_leftover(config)
    if not _complete_checkpoints(output, int(arguments.get("max_steps") or -1)) and output.exists():
        shutil.rmtree(output)
    write_text(config, yaml.safe_dump(dict(arguments), allow_unicode=True, sort_keys=False))
    # DeepSpeed needs torchrun, which LLaMA-Factory starts by itself on several GPUs only.
    variables = {"FORCE_TORCHRUN": "1"} if arguments.get("deepspeed") else {}
    _run("train", config, output, output / "trainer_log.jsonl", variables)
    if not is_model(output):
        raise LoopError(f"Training with {config} ended without weights in {output}; see {config.with_suffix('.log')}.")
    _settle(output / "adapter_config.json")
    state = output / "trainer_state.json"
    history = read_json(state)["log_history"] if state.exists() else []
    losses = [entry["train_loss"] for entry in history if "train_loss" in entry]
    steps = max((entry["step"] for entry in history), default=0)
    return {"steps": steps} | ({"loss": losses[-1]} if losses else {})


def merge(base: str, adapter: Path, template: str, output: Path, config: Path, extra: Mapping[str, Any]) -> None:
    """Merges an adapter into its base model with `llamafactory-cli export`.

    Args:
        base: model folder or hub name.
        adapter: the adapter's folder.
        template: chat template.
        output: folder of the merged model.
        config: where to write the arguments; the log lies beside it.
        extra: further arguments (trust_remote_code, ...).
    """
    _stop_leftover(config)
    shutil.rmtree(output, ignore_errors=True)
    arguments = {
        "model_name_or_path": base,
        "adapter_name_or_path": str(adapter),
        "template": template,
        "export_dir": str(output),
        "export_device": "auto",
        **extra,
    }
    write_text(config, yaml.safe_dump(arguments, allow_unicode=True, sort_keys=False))
    _run("export", config, output)


def program() -> list[str]:
    """LLaMA-Factory's command of the environment that runs this one, or the first on PATH."""
    beside = Path(sys.executable).parent / "llamafactory-cli"
    return [str(beside) if beside.exists() else "llamafactory-cli"]


def is_model(folder: Path) -> bool:
    """Whether a folder holds the weights of a model or of an adapter."""
    return any((folder / name).exists() for name in (*_WEIGHTS, *_WEIGHT_INDEXES))


def _settle(config: Path) -> None:
    """Sorts the module names of an adapter: peft writes sets, in another order each time."""
    if config.exists():
        values = read_json(config)
        names = ("target_modules", "modules_to_save")
        write_json(
            config, values | {name: sorted(values[name]) for name in names if isinstance(values.get(name), list)}
        )


def _complete_checkpoints(output: Path, max_steps: int) -> list[Path]:
    """Checkpoints that training can go on from; others are removed.

    From one at `max_steps` (-1: not set) the trainer would train one more step.
    """
    complete = []
    for folder in output.glob("checkpoint-*"):
        over = folder.name == f"checkpoint-{max_steps}"
        if not over and _is_complete(folder):
            complete.append(folder)
        else:
            shutil.rmtree(folder)
    return complete


def _is_complete(checkpoint: Path) -> bool:
    """Whether training can go on from a checkpoint: state and optimizer are there, and the state is whole."""
    try:
        read_json(checkpoint / "trainer_state.json")
    except FileError:
        return False
    return (checkpoint / "scheduler.pt").exists() or any(checkpoint.glob("global_step*"))


def _run(
    command: str,
    config: Path,
    output: Path,
    progress: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    line = [*program(), command, str(config)]
    log_path = config.with_suffix(".log")
    with open(log_path, "ab") as log:
        environment = {**os.environ, **(variables or {})}
        child = subprocess.Popen(
            line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _watch(child, progress)
        except BaseException:
            _stop_group(child.pid)
            child.wait()
            raise
    if child.returncode != 0:
        log_text = log_path.read_text(encoding="utf-8", errors="replace")
        tail = "\n".join(log_text.splitlines()[-_TAIL:])
        raise LoopError(
            f"`llamafactory-cli {command} {config}` failed with status {child.returncode}. {_full(tail, output)}"
            f"The end of {log_path}:\n{tail}\n"
            "Mend the cause and run the same command again; finished steps are kept."
        )


def _full(tail: str, output: Path) -> str:
    """What to do about a full disk, or "" if that was not the cause.

    A log on a full disk ends early, so free room counts as well.
    """
    place = next(folder for folder in (output, *output.parents) if folder.exists())
    told = _FULL.search(tail)
    if told is None and shutil.disk_usage(place).free >= _ROOM:
        return ""
    files = [path for path in output.rglob("*") if path.is_file() or path.is_symlink()]
    newest = max(files, key=lambda path: (path.lstat().st_mtime_ns, str(path)), default=output)
    return (
        f"The disk is full; the last file in writing was {(told and told['file']) or newest}. Make room (checkpoint-* "
        "folders of finished rounds are not needed any more); a training goes on from its newest complete checkpoint. "
    )


def _watch(child: subprocess.Popen[bytes], progress: Path | None) -> None:
    """Waits for the child, with a bar that follows LLaMA-Factory's training log."""
    bar: tqdm[Any] | None = None
    while child.poll() is None:
        time.sleep(_POLL)
        if progress is None or not progress.exists():
            continue
        with open(progress, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _ENTRY))
            last = file.read().strip().rpartition(b"\n")[2]
        try:
            entry = json.loads(last)
            step, total = entry["current_steps"], entry["total_steps"]
        except (ValueError, KeyError):  # half a line
            continue
        bar = bar or tqdm(total=total, desc="training", unit="step", leave=False)
        bar.update(step - bar.n)
    if bar is not None:
        bar.close()


def _stop_leftover(config: Path) -> None:
    """Ends what a killed loop left running on this YAML: two trainings must not write into one folder."""
    groups = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace").split("\0")
            group = os.getpgid(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
        if str(config) in line and any("llamafactory" in part for part in line[:-2]):
            groups.add(group)
    for group in groups - {os.getpgrp()}:
        _stop_group(group)


def _stop_group(leader: int) -> None:
    for kind, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(leader, kind)
        except (ProcessLookupError, PermissionError):  # gone, or somebody else's by now
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and _group_alive(leader):
            time.sleep(0.1)


def _group_alive(leader: int) -> bool:
    """Whether a process of the group still runs; zombies do not count."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[2]) == leader and after_name[0] != "Z":
            return True
    return False
