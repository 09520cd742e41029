# SPDX-License-Identifier: Apache-2.0
"""If LLaMA-Factory is another one, stock stages go on and ours say why they cannot."""

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest

from llamafactory_mmself import cli
from llamafactory_mmself.plugin import activation, contract, doctor


@pytest.fixture
def state(monkeypatch):
    monkeypatch.setattr(activation, "PROBLEMS", [])
    monkeypatch.setattr(activation, "PATCHED", {})


def tuner(run_dpo):
    module = ModuleType("llamafactory.train.tuner")
    module.run_sft = lambda model_args, data_args, training_args, finetuning_args, generating_args, callbacks=None: (
        None
    )
    module.run_dpo = run_dpo
    return module


def test_symbols_hold_in_the_tested_release():
    assert [symbol.problem() for symbol in contract.SYMBOLS if symbol.kind == "called"] == [None] * len(
        [symbol for symbol in contract.SYMBOLS if symbol.kind == "called"]
    )


def relied_on(facade):
    """(module, name) of everything that a module of ours imports from LLaMA-Factory."""
    tree = ast.parse(Path(facade.__file__).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("llamafactory."):
            yield from ((node.module, name.name) for name in node.names)


@pytest.mark.parametrize("name", ["lf", "lf_web"])
@pytest.mark.filterwarnings("default")
def test_every_name_that_we_import_is_in_the_contract(name):
    facade = importlib.import_module(f"llamafactory_mmself.plugin.{name}")
    known = {(symbol.module, symbol.name.split(".")[0]) for symbol in contract.SYMBOLS}
    modules = {module for module, _ in known}
    found = set(relied_on(facade))
    assert found
    assert not {(module, name) for module, name in found - known if f"{module}.{name}" not in modules}


def test_a_function_that_uses_other_names_than_we_rebind_is_a_problem():
    def run_sft(model_args):
        return get_data(model_args)  # noqa: F821

    module = ModuleType("workflow")
    module.run_sft = run_sft
    symbol = contract.Symbol("workflow", "run_sft", "called", "run", ("model_args",), uses=("get_dataset",))
    assert "does not use `get_dataset` any more" in symbol.problem(module)


def test_the_doctor_says_if_the_facade_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, doctor.FACADE, None)
    assert any("plugin.lf cannot be imported" in problem for problem in doctor.examine().problems)


def test_commands_end_with_the_reason_and_no_traceback(monkeypatch, capsys):
    def run(options):
        raise contract.ContractError("run_sft is gone.")

    monkeypatch.setattr(cli, "make_parser", lambda: Mock(parse_args=Mock(return_value=Mock(run=run))))
    assert cli.main(["validate", "run.yaml"]) == 2
    assert "run_sft is gone" in capsys.readouterr().err


def test_a_changed_signature_names_both_sides(state, capsys):
    def run_dpo(config, callbacks=None):
        return "stock"

    module = tuner(run_dpo)
    activation.patch_module(module)
    assert module.run_dpo is run_dpo  # untouched
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "takes (config, callbacks)" in warning and "written for (model_args, data_args" in warning
    with pytest.raises(contract.ContractError, match=r"takes \(config, callbacks\)"):
        activation.require_contract()


def test_a_missing_symbol_is_named(state, capsys):
    module = tuner(lambda: None)
    del module.run_dpo
    activation.patch_module(module)
    assert "run_dpo is gone" in capsys.readouterr().err


def test_stock_stages_run_where_only_the_parser_is_another_one(state, capsys):
    """The tuner is patched, the parser is not: its finetuning arguments know nothing of us."""
    parser = ModuleType("llamafactory.hparams.parser")
    parser.read_args = parser.get_train_args = lambda args=None: args

    def run_dpo(model_args, data_args, training_args, finetuning_args, callbacks=None):
        return "stock", callbacks

    module = tuner(run_dpo)
    activation.patch_module(parser)
    activation.patch_module(module)
    assert module.run_dpo is not run_dpo
    assert module.run_dpo("m", "d", "t", SimpleNamespace(stage="dpo"), callbacks=None) == ("stock", None)
    assert module.run_dpo("m", "d", "t", SimpleNamespace(stage="dpo")) == ("stock", None)


def test_modules_that_are_none_of_ours_are_left_alone(state):
    activation.patch_module(ModuleType("llamafactory.cli"))
    assert not activation.PATCHED and not activation.PROBLEMS


def test_a_parser_we_do_not_know_still_refuses_our_stages(state, capsys):
    module = ModuleType("llamafactory.hparams.parser")
    module.read_args = lambda args=None: args
    module.get_train_args = lambda args=None: "stock"
    activation.patch_module(module)
    assert "_parse_train_args is gone" in capsys.readouterr().err
    assert module.get_train_args({"stage": "dpo"}) == "stock"
    with pytest.raises(contract.ContractError, match="_parse_train_args"):
        module.get_train_args({"stage": "mdpo"})
