# SPDX-License-Identifier: Apache-2.0
"""Every example is a run that the parser accepts and whose data is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamafactory_mmself.loop.ares_presets import with_preset


ROOT = Path(__file__).resolve().parent.parent
TEACHERS = sorted((ROOT / "examples").rglob("teacher*.yaml"))
SERVICES = sorted((ROOT / "examples").rglob("*services.yaml"))
ALL = sorted((ROOT / "examples").rglob("*.yaml"))
EXAMPLES = sorted(set(ALL) - {*TEACHERS, *SERVICES})
RECIPES = [path for path in EXAMPLES if "method" in yaml.safe_load(path.read_text())]
TINY = [path for path in EXAMPLES if path.stem.endswith("_tiny")]
PRESETS = {"r3v-geoqa": "r3v/geoqa_qwen2_vl_7b_paper.yaml", "stl": "stl/m3cot_llava15_7b_paper.yaml"}


def training_arguments(path: Path) -> list[dict[str, Any]]:
    """What LLaMA-Factory gets to read: the file, or the trainings of a recipe as the loop fills them in."""
    values = yaml.safe_load(path.read_text())
    if path not in RECIPES:
        return [values]
    names = {"model_name_or_path": values["base_model"], "template": values["template"], "dataset": "self_training"}
    common = {**values["train"], **names, "dataset_dir": str(ROOT / "data"), "do_train": True}
    stages = {"r0": "reflection_sft", "sft": "reflection_sft", "offline": "sherlock_dpo", "online": "sherlock_dpo"}
    stages |= {"rl": "ares_ppo", "answer": "sft"}
    if values["method"] == "ares":
        values["rounds"]["rl"]["teacher"] = values["build"]["teacher"]
        values["rounds"] = {name: with_preset(name, own) for name, own in values["rounds"].items()}
    return [{**common, "stage": stages[name], **own} for name, own in values.get("rounds", {}).items()] or [common]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
@pytest.mark.filterwarnings("default")
def test_the_parser_accepts_it(path, tmp_path, monkeypatch):
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.hparams import get_train_args

    for arguments in training_arguments(path):
        arguments |= {"output_dir": str(tmp_path / "out"), "bf16": False, "fp16": False, "deepspeed": None}
        arguments.pop("attn", None)  # xFormers need not be installed
        arguments.pop("global_batch", None)  # the loop makes accumulation of it
        finetuning = get_train_args(arguments)[3]
        assert finetuning.plugin_stage or finetuning.stage == "sft"


@pytest.mark.parametrize("path", TEACHERS, ids=lambda path: path.name)
def test_teachers_are_ones_that_can_be_asked(path):
    from llamafactory_mmself.generate.teacher_config import read_teacher_config

    assert read_teacher_config(path).api_model


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_services_are_ones_that_can_be_asked(path):
    from llamafactory_mmself.generate.service_config import load_services

    with load_services(path) as services:
        assert services.policies["painter"].startswith("black-forest-labs/FLUX.1-dev@")


def entries(values: Any) -> list[tuple[str, Any]]:
    """Every key of a file and its value, however deep."""
    if not isinstance(values, dict):
        return []
    return [entry for key, value in values.items() for entry in [(key, value), *entries(value)]]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_files_that_it_names_are_there_and_no_code_of_models_is_run(path):
    found = entries(yaml.safe_load(path.read_text()))
    named = [str(value) for key, value in found if key in ("services", "teacher", "deepspeed")]
    assert not [name for name in named if Path(name).suffix in (".yaml", ".json") and not (ROOT / name).is_file()]
    assert "trust_remote_code" not in dict(found)


def test_the_readme_names_no_file_that_is_not_there():
    named = re.findall(r"`([\w/]+\.(?:yaml|json))`", (ROOT / "examples" / "README.md").read_text())
    missing = {name for name in named if not list((ROOT / "examples").rglob(name))}
    assert named and not missing


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
    assert all(str(path.relative_to(ROOT / "examples")) in listed for path in RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_one_that_the_loop_takes(path, tmp_path):
    from llamafactory_mmself.loop.methods import make_steps
    from llamafactory_mmself.loop.recipe import make_recipe
    from llamafactory_mmself.loop.sampler import Sampler

    values = yaml.safe_load(path.read_text())
    for name in ("train_data", "test_data", "warmup"):
        if name in values:
            values[name] = str(tmp_path / f"{name}.json")
            Path(values[name]).write_text("[]")
    names = [step.name for step in make_steps(make_recipe(values, str(path)), Sampler())]
    last = "score" if "test_data" in values else "train"
    assert names[-1] == f"iter{values['iterations']}/{last}" and "iter1/train" in names


@pytest.mark.parametrize(("preset", "path"), PRESETS.items())
def test_presets_are_the_papers_settings(preset, path):
    from llamafactory_mmself.loop.presets import preset_values

    assert preset_values(preset) == yaml.safe_load((ROOT / "examples" / path).read_text())
