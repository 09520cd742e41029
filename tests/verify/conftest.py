# SPDX-License-Identifier: Apache-2.0
"""Cases computed with the published code; they lie beside the project, not in it."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vectors():
    """Gives the cases of one group of one file."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip("the published code's cases are not here; the rules are tested without them")

    def load(file, group):
        cases = [case for case in json.loads((folder / file).read_text())["vectors"] if case["group"] == group]
        assert cases
        return cases

    return load
