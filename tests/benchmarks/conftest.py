# SPDX-License-Identifier: Apache-2.0
"""Makes the scripts' own modules importable, as they are when a script is started."""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
