# SPDX-License-Identifier: Apache-2.0
"""Curves that were seen once, by stack: what a run logs today has to be what it logged when its curve was recorded.

`make trajectories` records them anew; a change of the file then shows which curves a change of the code has moved.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


FOLDER = Path(__file__).parent / "trajectories"
STACK = ("llamafactory", "torch", "transformers", "peft", "accelerate")
RECORD = "MMSELF_RECORD_TRAJECTORIES"
ANEW = "If that is meant, `make trajectories` records it anew."
TOLERANCES = {"loss": 1e-4}  # sums of another CPU differ in the last bits, and Adam makes more of that
OTHERS = 2e-3


def stack() -> dict[str, str]:
    """Package -> version, of those that a curve depends on."""
    return {name: version(name) for name in STACK}


class Trajectories:
    """The recorded curves of this stack.

    Args:
        record: curves are written instead of compared.
        folder: one JSON for each stack.
    """

    def __init__(self, record: bool, folder: Path = FOLDER) -> None:
        self._record = record
        self._file = folder / f"{'-'.join(f'{name}{number}' for name, number in stack().items())}.json"
        self._known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def check(self, name: str, model: Path, logged: Callable[[str], list[float]], metrics: Sequence[str]) -> None:
        """Compares a run's curves with the recorded ones, or records them.

        Args:
            name: of the class of settings that have this curve in common.
            model: folder of the tiny model that was trained; its tokenizer is trained on the package's own texts.
            logged: metric -> its values in order.
            metrics: names of the curves.

        Raises:
            AssertionError: a curve is another, or none was recorded, with what to do.
        """
        found = {
            "tokenizer": hashlib.sha256((model / "tokenizer.json").read_bytes()).hexdigest()[:16],
            **{metric: logged(metric) for metric in metrics},
        }
        if self._record:
            self._known[name] = found
            self._file.parent.mkdir(exist_ok=True)
            self._file.write_text(json.dumps(dict(sorted(self._known.items())), indent=1) + "\n")
            return
        assert name in self._known, f"{self._file.name} has no curve {name!r}: `make trajectories` records it."
        known = self._known[name]
        assert known["tokenizer"] == found["tokenizer"], (
            f"{name!r} was recorded with another tokenizer: a prompt or the toy world's text has changed. {ANEW}"
        )
        for metric in metrics:
            bound = TOLERANCES.get(metric, OTHERS)
            pairs = list(zip(found[metric], known[metric], strict=True))
            assert pairs and all(abs(one - other) <= bound for one, other in pairs), (
                f"{name!r}: {metric} is {found[metric]}, recorded as {known[metric]}. {ANEW}"
            )
