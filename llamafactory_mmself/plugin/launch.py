# SPDX-License-Identifier: Apache-2.0
"""`mmself train`: LLaMA-Factory's own command line with the plugin switched on by hand.

Run as a script, this is what torchrun starts on each rank in place of LLaMA-Factory's launcher.
"""

from __future__ import annotations

import os
import sys


def env_enabled(variable: str) -> bool:
    """Whether an environment variable is switched on."""
    return os.getenv(variable, "0").lower() in ("1", "true", "y", "yes")


def train(arguments: list[str]) -> int:
    """Runs `llamafactory-cli train` with these arguments; data-parallel workers get the plugin, too."""
    from .. import _autoload

    if not _autoload.activate():
        print(f"mmself: error: {_autoload.SWITCH}=off switches the plugin off; unset it.", file=sys.stderr)
        return 2
    from llamafactory import launcher

    if env_enabled("USE_RAY"):
        os.environ[_autoload.SWITCH] = "on"  # Ray's workers inherit the environment, not this process
    launcher.__file__ = os.path.abspath(__file__)  # the script that it hands to torchrun
    sys.argv = ["llamafactory-cli", "train", *arguments]
    launcher.launch()
    return 0


def _worker() -> None:
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.train.tuner import run_exp

    run_exp()


if __name__ == "__main__":
    sys.path[0:1] = []  # the folder of this file: its module names are not meant to be imported from there
    _worker()
