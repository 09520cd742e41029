# SPDX-License-Identifier: Apache-2.0
"""LlamaBoard's own parts are the same with the plugin and without it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest


CODE = """
import json, sys
from llamafactory.extras.constants import TRAINING_STAGES as STOCK
from llamafactory.webui import common, interface, runner

engines = []
class Engine(interface.Engine):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        engines.append(self)

interface.Engine = Engine
demo = interface.create_ui()
manager = engines[0].manager
names = {name: manager.get_elem_by_id(name) for name in manager._id_to_elem}
data = {elem: getattr(elem, "value", None) for elem in names.values()}
given = {"top.model_name": "Qwen2-VL-2B-Instruct", "top.model_path": "m", "top.lang": "en"}
given |= {"train.dataset": ["a", "b"]}
given |= {"train.output_dir": "o", "train.lora_target": "", "top.checkpoint_path": [], "train.reward_model": ["r"]}
data |= {names[name]: value for name, value in given.items()}
commands = {}
for title, stage in runner.TRAINING_STAGES.items():
    data[names["train.training_stage"]] = title
    commands[stage] = common.gen_cmd(engines[0].runner._parse_train_args(data))
def known(elem):
    config = {key: value for key, value in elem.get_config().items() if key not in ("name", "_selectable")}
    return {**config, "choices": None} if elem in (names["train.training_stage"], names["top.template"]) else config
stages, templates = names["train.training_stage"].choices, names["top.template"].choices
stock = {name: known(elem) for name, elem in names.items() if "mmself" not in name}
apis = sorted(str(item["api_name"]) for item in demo.config["dependencies"] if item["api_name"])
ours = [name for name in names if "mmself" in name]
told = {"commands": commands, "stages": stages, "stock": stock, "apis": apis, "ours": ours, "known": list(STOCK)}
told["templates"] = templates
told["language"] = {n: v for n, v in sys.modules["llamafactory.webui.locales"].LOCALES.items() if "mmself" not in n}
told["page"] = "mmself" in json.dumps(demo.config, default=str)
print("TOLD" + json.dumps(told, default=str))
"""


@pytest.fixture(scope="module")
def told(clean_environment: Callable[..., dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a LlamaBoard is made of, with LLAMAFACTORY_MMSELF as given."""

    def ask(switch: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            cwd=tmp_path_factory.mktemp("board"),
            env=clean_environment(LLAMAFACTORY_MMSELF=switch),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.partition("TOLD")[2])
        return found

    return {switch: ask(switch) for switch in ("on", "off")}


def test_arguments_of_stock_stages_are_the_same_to_the_byte(told):
    stock = told["off"]["commands"]
    assert {"sft", "rm", "ppo", "dpo", "kto", "pt"} == stock.keys()
    assert {stage: told["on"]["commands"][stage] for stage in stock} == stock


def test_stock_parts_are_the_same(told):
    for part in ("stock", "apis", "language", "known"):
        assert told["on"][part] == told["off"][part], part
    stock = told["off"]["templates"]
    assert [item for item in told["on"]["templates"] if item in stock] == stock


def test_switched_off_nothing_is_there(told):
    assert told["off"]["ours"] == [] and not told["off"]["page"]
    assert told["on"]["ours"] and told["on"]["page"]
    assert [value for _, value in told["off"]["stages"]] == told["off"]["known"]


def test_our_stages_stand_below_the_stock_ones(told):
    titles = [value for _, value in told["on"]["stages"]]
    assert titles[: len(told["on"]["known"])] == told["on"]["known"]
    assert {"mdpo", "reflection_sft", "sherlock_dpo", "ares_ppo"} <= told["on"]["commands"].keys()


def test_preferences_go_with_the_stages_that_read_them(told):
    commands = told["on"]["commands"]
    assert "--pref_beta 0.1" in commands["mdpo"] and "--pref_loss sigmoid" in commands["mdpo"]
    assert "--pref_beta 0.1" in commands["sherlock_dpo"] and "--pref_loss" not in commands["sherlock_dpo"]
    for stage in ("reflection_sft", "ares_ppo"):
        assert "--pref_" not in commands[stage]


def test_every_text_is_there_in_five_languages() -> None:
    from llamafactory_mmself.plugin.webui import texts

    for name, parts in texts._texts().items():
        for part, words in parts.items():
            assert len(words) == len(set(texts.LANGUAGES)) == 5, (name, part)
            assert all(isinstance(word, str) and word.strip() for word in words), (name, part)
    assert texts.text("running", None) == texts.text("running", "en") == "running"
    assert texts.text("running", "ja") == "実行中"


def test_labels_are_there_for_all_that_is_shown(told):
    from llamafactory_mmself.plugin.registry import load_arguments, stage_entry_points
    from llamafactory_mmself.plugin.webui import texts

    names = {stage: [item.name for item in fields(load_arguments(stage))] for stage in stage_entry_points()}
    known = texts.labels(names)
    silent = {"mmself_answer", "mmself_progress", "mmself_log", "mmself_report", "mmself_cards", "mmself_preview"}
    shown = {name.partition(".")[2] for name in told["on"]["ours"]}
    assert shown - silent <= known.keys()
    plain = {name for name in texts._texts() if name.startswith("mmself_")}
    assert plain - {"mmself_shared", "mmself_evaluation"} <= shown


def test_arguments_have_words_in_all_languages() -> None:
    from llamafactory_mmself.plugin.registry import form_hints, load_arguments, stage_entry_points
    from llamafactory_mmself.plugin.webui import texts

    listed = set()
    for stage in stage_entry_points():
        listed |= {item.name for item in fields(load_arguments(stage))} - form_hints(stage).unlisted
    assert listed == texts._arguments().keys()
    assert all(len(words) == 4 for words in texts._arguments().values())
    assert texts.argument_labels("strategy")["zh"] == {"label": "策略 · strategy"}
    assert texts.argument_labels("strategy")["en"] == {"label": "strategy"}
    assert texts.argument_labels("of_another_package")["ko"] == {"label": "of_another_package"}


def test_the_web_ui_is_left_alone_where_it_is_another_one(monkeypatch, capsys) -> None:
    from types import ModuleType

    from llamafactory_mmself.plugin import activation, contract

    monkeypatch.setattr(activation, "WEB_PROBLEMS", [])
    monkeypatch.setattr(activation, "PROBLEMS", [])
    monkeypatch.setattr(contract, "problems", lambda *args, **kwargs: ["a tab is gone"])
    activation.patch_module(ModuleType("llamafactory.webui.interface"))
    assert activation.WEB_PROBLEMS == ["a tab is gone"] and not activation.PROBLEMS  # stages go on
    assert "a tab is gone" in capsys.readouterr().err


def test_only_two_modules_import_llama_factory(project_root: Path) -> None:
    found = [
        path.name
        for path in (project_root / "llamafactory_mmself").rglob("*.py")
        if any(
            line.startswith(("from llamafactory.", "import llamafactory.")) for line in path.read_text().splitlines()
        )
    ]
    assert sorted(found) == ["lf.py", "lf_web.py"]
