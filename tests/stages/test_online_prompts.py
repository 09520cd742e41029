# SPDX-License-Identifier: Apache-2.0
"""Prompts that cannot be used are counted or refused, never a traceback."""

import json
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from PIL import Image

from llamafactory_mmself.data.faults import DataError
from llamafactory_mmself.stages.mdpo.arguments import MDPOArguments
from llamafactory_mmself.stages.mdpo.online.prompts import load_prompts


@pytest.mark.parametrize(
    "error", [ValueError("no template"), OSError("cut off"), Image.DecompressionBombError("bomb")]
)
def test_prompts_that_cannot_be_encoded_are_faults(error, tmp_path):
    row = {"conversations": [{"from": "human", "value": "What is it?"}], "chosen": "A cat.", "rejected": "A dog."}
    row["images"] = []
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    data = SimpleNamespace(media_dir=str(tmp_path), max_samples=None, cutoff_len=100)
    args = MDPOArguments(strategy="online-dpo", ds_path=str(tmp_path / "rows.json"))
    encoder = Mock(prompt=Mock(side_effect=error))
    with pytest.raises(DataError, match=f"row 1: {error}"):
        load_prompts(SimpleNamespace(stage=args, data=data), encoder, frozenset())
