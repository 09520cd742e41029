# SPDX-License-Identifier: Apache-2.0
"""The machine that figures were taken on, and the code."""

import os
import platform
import subprocess
from pathlib import Path


def describe_machine() -> dict[str, str | int | float | None]:
    """Returns what the figures depend on, without the machine's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),  # anything near the number of cores spoils the figures
        "system": platform.platform(),
    }


def describe_commit() -> str:
    """Returns the checkout's commit, marked if tracked files differ from it; without git, "unknown"."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
