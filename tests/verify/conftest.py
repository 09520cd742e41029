# SPDX-License-Identifier: Apache-2.0
"""Cases computed with the published code; they lie beside the project, not in it."""

import json

import pytest


@pytest.fixture(scope="session")
def vectors(shared_golden):
    """Gives the cases of one group of one file."""

    def load(file, group):
        cases = [case for case in json.loads((shared_golden / file).read_text())["vectors"] if case["group"] == group]
        assert cases
        return cases

    return load
