# SPDX-License-Identifier: Apache-2.0
"""A process that trains on a CPU keeps the memory that it frees."""

import platform
import subprocess
import sys

import pytest


# Resident memory after 64 MiB were written to and freed, in MiB, with the setting and without.
CODE = """
import sys, torch
from llamafactory_mmself.tree.heap import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
before = resident()
block = torch.ones(1 << 24)
del block
print(kept, resident() - before)
"""


def freed(mode: str, **environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, mode], env=environment, capture_output=True, text=True, check=True
    )
    kept, grown = done.stdout.split()
    return kept, int(grown)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other allocators")
def test_freed_memory_stays() -> None:
    kept, grown = freed("keep")
    assert kept == "True" and grown > 60
    assert freed("plain")[1] < 30


def test_who_has_set_the_allocator_is_left_alone() -> None:
    kept, _ = freed("keep", MALLOC_TRIM_THRESHOLD_="65536")
    assert kept == "False"
