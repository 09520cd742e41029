# SPDX-License-Identifier: Apache-2.0
"""Memory that training on a CPU uses again instead of giving it back.

Activations of a step are freed and wanted again at once, thousands of times. glibc hands large blocks back to the
system each time, which clears every page before it gives it out again, by the ten thousand in a step of a small model.
PyTorch's tuning guide recommends another allocator for the same reason; this is the same without installing one.
"""

from __future__ import annotations

import ctypes
import os
import platform


# Of mallopt(3). Blocks up to a GiB come from the heap, and the heap does not shrink.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SETTINGS = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: 2**31 - 1}
#: Environment variables by which users set glibc themselves.
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, unless its user has set the allocator.

    Returns:
        whether the allocator took it: glibc does, others have settings of their own.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOSEN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS.items())
