# SPDX-License-Identifier: Apache-2.0
"""Rows of a data set are the same wherever LLaMA-Factory loads them from."""

import json

import pytest
from datasets import Dataset
from PIL import Image

from llamafactory_mmself import _autoload
from llamafactory_mmself.stages.base import RunArguments
from llamafactory_mmself.stages.mdpo.arguments import MDPOArguments
from llamafactory_mmself.stages.mdpo.stage import STAGE
from llamafactory_mmself.toyworld.models import TEMPLATES


pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_our_columns_are_read_from_every_kind_of_file(suffix, tiny_models, tmp_path):
    from llamafactory_mmself.stages.reading import checked_rows

    _autoload.activate()
    from llamafactory.hparams import get_train_args

    for name in ("seen", "changed"):
        Image.new("RGB", (56, 56), "red").save(tmp_path / f"{name}.png")
    row = {"talk": [{"from": "human", "value": "<image>What is it?"}], "good": "A cat.", "bad": "A dog."}
    row |= {"pictures": ["seen.png"], "uid": "q1", "neg": ["changed.png"], "w": 2.0}
    rows = Dataset.from_list([row])
    rows.to_json(tmp_path / "rows.json") if suffix == "json" else rows.to_parquet(tmp_path / "rows.parquet")
    columns = {"messages": "talk", "chosen": "good", "rejected": "bad", "images": "pictures"}
    columns |= {"id": "uid", "rejected_images": "neg", "weights": "w"}
    entry = {"file_name": f"rows.{suffix}", "formatting": "sharegpt", "ranking": True, "columns": columns}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"rows": entry}))

    arguments = {"stage": "mdpo", "do_train": True, "dataset": "rows", "dataset_dir": str(tmp_path)}
    arguments |= {"model_name_or_path": str(tiny_models("llava")), "template": TEMPLATES["llava"]}
    arguments |= {"output_dir": str(tmp_path / "run"), "media_dir": str(tmp_path), "report_to": "none"}
    model, data, training, finetuning, _ = get_train_args(arguments)
    (found,) = checked_rows(STAGE, RunArguments(model, data, training, finetuning, MDPOArguments()), "rows")
    assert (found.key, found.weight, found.rejected_images) == ("q1", 2.0, (str(tmp_path / "changed.png"),))
