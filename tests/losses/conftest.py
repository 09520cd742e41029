# SPDX-License-Identifier: Apache-2.0
"""Cases computed with the published code; they lie beside the project, not in it."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip("the published code's cases are not here; the formulas are tested without them")
    return folder
