# SPDX-License-Identifier: Apache-2.0
"""Every example is a run that the parser accepts and whose data is there."""

import json
import re
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
TINY = [path for path in EXAMPLES if path.stem.endswith("_tiny")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
@pytest.mark.filterwarnings("default")
def test_the_parser_accepts_it(path, tmp_path, monkeypatch):
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.hparams import get_train_args

    arguments = yaml.safe_load(path.read_text())
    arguments |= {"output_dir": str(tmp_path / "out"), "bf16": False, "fp16": False, "deepspeed": None}
    finetuning = get_train_args(arguments)[3]
    assert finetuning.plugin_stage or finetuning.stage == "sft"


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.name)
def test_its_data_is_shipped_and_its_model_can_be_built(path):
    text = path.read_text()
    arguments = yaml.safe_load(text)
    info = json.loads((ROOT / arguments["dataset_dir"] / "dataset_info.json").read_text())
    for key in ("dataset", "eval_dataset"):
        names = (arguments.get(key) or "").split(",")
        assert all(name.strip() in info for name in names if name)
    built = re.search(r"mmself toy model --family \w+ --out (\S+)", text)
    assert built and built.group(1) == arguments["model_name_or_path"]


def test_the_readme_names_every_example():
    listed = (ROOT / "examples" / "README.md").read_text()
    assert all(path.name in listed for path in TINY)
