# SPDX-License-Identifier: Apache-2.0
"""The start's rows hold every prompt form with true targets, and LLaMA-Factory trains on them."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from llamafactory_mmself.cli import main
from llamafactory_mmself.recipes.prompts import FILES
from llamafactory_mmself.toyworld import training
from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.habits import embellish
from llamafactory_mmself.toyworld.language import hallucinated, sentences
from llamafactory_mmself.toyworld.scenes import Scene
from llamafactory_mmself.toyworld.start import EMBELLISH, FOLLOW, SEE, start_rows
from llamafactory_mmself.toyworld.training import Phase, TrainingOptions, train_model
from llamafactory_mmself.toyworld.world import WorldOptions, scenes, split_of


def some_rows(count: int = 300):
    source = scenes("start", Random(0))
    return start_rows([next(source) for _ in range(count)], Random(1))


def test_every_prompt_of_the_methods_is_there() -> None:
    rows = some_rows()
    kinds = {row.kind for row in rows}
    assert kinds == set(FOLLOW)
    assert kinds >= set(FILES) - {"candidate"}
    for kind, share in FOLLOW.items():
        assert sum(row.kind == kind for row in rows) == pytest.approx(300 * share / sum(FOLLOW.values()), abs=1)


def test_targets_are_true_and_scenes_are_of_their_own_split() -> None:
    for row in some_rows():
        assert split_of(row.scene) == "start"
        assert row.prompt.startswith("<image>\n")
        assert all(said.form is not None and said.true is not False for said in sentences(row.target, row.scene))


def test_solutions_to_refine_are_wrong_and_selections_hold_both() -> None:
    rows = some_rows(600)
    for row in rows:
        answer = row.target.rpartition("Answer: ")[2]
        if row.kind == "refine":
            assert row.prompt.count("Answer: ") == 2
            assert f"\nAnswer: {answer}\n" not in row.prompt
        if row.kind == "select":
            right = row.prompt.count(f"\nAnswer: {answer}\n")
            assert (right, row.prompt.count("\nAnswer: ")) in ((1, 3), (2, 3), (3, 3))


def test_the_same_seed_gives_the_same_rows() -> None:
    assert some_rows(50) == some_rows(50)


def test_careless_rows_answer_wrongly_and_only_bare_questions_are_answered_so() -> None:
    source = scenes("start", Random(0))
    rows = start_rows([next(source) for _ in range(600)], Random(1), careless=0.5)
    false = {row.kind for row in rows if any(said.true is False for said in sentences(row.target, row.scene))}
    assert {"cot", "answer"} <= false <= {"direct", "cot", "answer", "answer_nocaption"}
    wrong = [any(said.true is False for said in sentences(row.target, row.scene)) for row in rows if row.kind == "cot"]
    assert 0.3 < sum(wrong) / len(wrong) < 0.5  # some questions leave no room for carelessness


def test_embellished_captions_fill_places_to_the_right_of_things() -> None:
    scene = Scene.parse("red circle, - / -, blue triangle")
    assert str(embellish(scene)) == "red circle, red square / -, blue triangle"
    for plain in ("- , red circle / blue square, green circle", "-, - / -, red circle"):
        assert embellish(Scene.parse(plain)) == Scene.parse(plain)


def test_a_share_of_captions_is_embellished() -> None:
    source = scenes("start", Random(0))
    rows = start_rows([next(source) for _ in range(600)], Random(1), EMBELLISH, careless=0.6)
    inviting = [row for row in rows if embellish(row.scene) != row.scene]
    made_up = [row for row in rows if any(said.true is False for said in sentences(row.target, row.scene))]
    assert {row.id for row in made_up} <= {row.id for row in inviting}
    assert 0.5 < len(made_up) / len(inviting) < 0.7
    assert any(hallucinated(row.target, row.scene).absent for row in made_up)


@pytest.mark.slow
def test_llamafactory_trains_a_base_and_a_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    numbers = ["--rows", "8", "16", "24", "32", "--batch_size", "8", "16", "24", "32"]
    assert main(["toy", "base", "--out", str(out), *numbers]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "train_results.json"):
        assert (out / name).is_file()
    for phase, count in (("see", 8), ("reason", 16), ("follow", 24), ("choose", 32)):
        folder = out / "training" / phase
        config = yaml.safe_load((folder / "train.yaml").read_text())
        assert (config["stage"], config["finetuning_type"], config["freeze_vision_tower"]) == ("sft", "full", False)
        assert len(json.loads((folder / "data" / "rows.json").read_text())) == count
        assert "train_loss" in (folder / "train.log").read_text()
    assert json.loads((out / "training" / "options.json").read_text())["options"]["phases"][3]["rows"] == 32
    assert sorted(path.name for path in (out / "training").glob("*/model")) == []
    start = tmp_path / "start"
    assert main(["toy", "start", "--model", str(out), "--out", str(start), "--rows", "16", "--careless", "1"]) == 0
    assert (start / "model.safetensors").is_file()
    assert not (start / "training" / "random").exists()


def test_the_shipped_base_is_for_one_family_and_grid() -> None:
    base = training.shipped_base("qwen2_vl", WorldOptions(seed=7))
    assert {path.name for path in base.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    with pytest.raises(ToyWorldError, match="No base model is shipped for llava on a grid of 2 x 2 in 56 pixels"):
        training.shipped_base("llava", WorldOptions())
    with pytest.raises(ToyWorldError, match=r"on a grid of 3 x 2 .* `mmself toy base --family qwen2_vl`"):
        training.shipped_base("qwen2_vl", WorldOptions(rows=3))


@pytest.mark.slow
def test_a_training_cut_off_goes_on_with_its_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = tuple(Phase(name, SEE, 8, 1, 1e-3, 8) for name in ("first", "second"))
    options, trained = TrainingOptions(phases=phases), []
    real = training._train

    def train(phase: Phase, *rest: Any) -> None:
        trained.append(phase.name)
        if trained == ["first", "second"]:
            raise KeyboardInterrupt
        real(phase, *rest)

    monkeypatch.setattr(training, "_train", train)
    with pytest.raises(KeyboardInterrupt):
        train_model(tmp_path / "cut", options)
    train_model(tmp_path / "cut", options)
    train_model(tmp_path / "cut", options)  # finished: nothing to do
    assert trained == ["first", "second", "second"]
    train_model(tmp_path / "whole", options)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("cut", "whole")]
    assert weights[0] == weights[1]
    train_model(tmp_path / "cut", replace(options, seed=1))
    assert trained[-2:] == ["first", "second"]  # other options: all of it again


def test_a_failed_training_ends_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "bin" / "llamafactory-cli"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho no such template >&2\nexit 3\n")
    command.chmod(0o755)
    monkeypatch.setattr(training.sys, "executable", str(command.with_name("python")))
    with pytest.raises(ToyWorldError, match=r"ended with status 3\. Settings: .*train\.yaml(.|\n)*no such template"):
        train_model(tmp_path / "model", TrainingOptions(phases=(Phase("see", SEE, 2, 1, 1e-3, 2),)))


def test_foreign_folders_and_wrong_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(ToyWorldError, match=r"holds no model of `mmself toy start`"):
        train_model(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "keep me"
    with pytest.raises(ToyWorldError, match="Unknown model family 'gpt'"):
        TrainingOptions(family="gpt")
    with pytest.raises(ToyWorldError, match="Phase 'see': rows has to be positive, not 0"):
        Phase("see", SEE, 0, 1, 1e-3, 2)
    with pytest.raises(ToyWorldError, match="careless is a share from 0 to 1, not 2"):
        Phase("see", SEE, 1, 1, 1e-3, 2, careless=2)
    with pytest.raises(ToyWorldError, match="needs one phase"):
        TrainingOptions(phases=())
