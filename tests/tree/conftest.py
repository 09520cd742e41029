# SPDX-License-Identifier: Apache-2.0
"""A tiny model of each family with its encoder, and trees of real rows."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from llamafactory_mmself import _autoload
from llamafactory_mmself.data.encode import RowEncoder, encode_pairs
from llamafactory_mmself.data.rows import PreferenceRow, Turn
from llamafactory_mmself.stages.mdpo.arguments import MDPOArguments
from llamafactory_mmself.stages.mdpo.tree import build_tree
from llamafactory_mmself.toyworld.models import FAMILIES, TEMPLATES
from llamafactory_mmself.tree.batch import DenseCollator
from llamafactory_mmself.tree.packed import PackedCollator
from llamafactory_mmself.tree.sample import SampleTree


@dataclass(frozen=True)
class Lab:
    """One family in float64."""

    model: Any
    template: Any
    processor: Any
    tokenizer: Any
    encoder: RowEncoder
    collate: DenseCollator
    rows: list[PreferenceRow]

    def trees(self, strategy: str = "orm", mode: str = "single", rows: Any = None) -> list[SampleTree]:
        """Trees of the rows."""
        arguments = MDPOArguments(strategy=strategy, vtcl_mode=mode)
        segments = []
        for row in rows or self.rows:
            encoded, faults = encode_pairs(row, self.encoder)
            assert not faults
            segments += encoded
        return [build_tree(item, arguments, None, seed=0) for item in segments]

    def batch(self, trees: list[SampleTree], valid: Any = None) -> dict[str, Any]:
        """A dense batch in float64."""
        return cast(self.collate(trees, valid), torch.float64)

    def packed(self, trees: list[SampleTree]) -> dict[str, Any]:
        """A packed batch in float64."""
        return cast(PackedCollator(self.collate)(trees), torch.float64)


def cast(batch: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Pixels in another type."""
    return {
        name: value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in batch.items()
    }


@pytest.fixture(scope="session")
def make_lab(tiny_models, shapes):
    """family -> Lab."""
    _autoload.activate()
    from transformers import AutoModelForImageTextToText

    from llamafactory_mmself.plugin import lf

    labs: dict[str, Lab] = {}

    def row(number: int, question: str, chosen: str, rejected: str, images: list[int]) -> PreferenceRow:
        first, second = (shapes[place] for place in images)
        prompt = (Turn("user", f"<image>\n{question}"),)
        return PreferenceRow(
            f"row{number}", "rows.json", number, "", "", prompt, chosen, (rejected,), (first,), (second,)
        )

    rows = [
        row(1, "What is shown?", "A red circle.", "A green square, and nothing else at all.", [0, 1]),
        row(2, "How many shapes are there here?", "There is one shape.", "Two.", [1, 2]),
        row(3, "What is shown?", "A blue circle is shown.", "Nothing.", [0, 2]),
    ]

    def make(family: str) -> Lab:
        if family in labs:
            return labs[family]
        path = str(tiny_models(family))
        arguments = {
            "model_name_or_path": path,
            "stage": "mdpo",
            "template": TEMPLATES[family],
            "output_dir": "unused",
            "report_to": "none",
        }
        model_args, data_args, *_ = lf.get_train_args(arguments)
        modules = lf.load_tokenizer(model_args)
        tokenizer, processor = modules["tokenizer"], modules["processor"]
        template = lf.load_template(tokenizer, data_args)
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float64).eval()
        labs[family] = Lab(
            model,
            template,
            processor,
            tokenizer,
            lf.row_encoder(template, tokenizer, processor, 1024),
            DenseCollator(lf.family(template, tokenizer, processor, model), tokenizer.pad_token_id),
            rows,
        )
        return labs[family]

    return make


@pytest.fixture(params=FAMILIES)
def lab(request, make_lab) -> Lab:
    """Every family in turn."""
    return make_lab(request.param)
