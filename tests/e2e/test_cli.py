# SPDX-License-Identifier: Apache-2.0
"""The command lines that users type, in processes of their own."""

import json
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
import torch
import yaml


PUBLISHED_FLAGS = [
    *(
        "--stage",
        "mdpo",
        "--do_train",
        "True",
        "--vtcl_mode",
        "single",
        "--not_half_dpo_loss",
        "--anchor_ratio",
        "0.0",
    ),
    *("--experience_buffer", "--exp_per_batch", "1", "--finetuning_type", "lora", "--lora_rank", "256"),
    *("--lora_target", "all", "--template", "llava_new", "--learning_rate", "1e-6", "--lr_scheduler_type", "cosine"),
    *("--num_train_epochs", "2", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "1"),
    *("--save_steps", "4", "--eval_strategy", "steps", "--eval_steps", "4", "--logging_steps", "1"),
    *("--report_to", "none", "--ddp_timeout", "18000000", "--preprocessing_num_workers", "2", "--val_size", "6"),
]


def history(folder: Path):
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def losses(folder: Path):
    return [entry["loss"] for entry in history(folder) if "loss" in entry]


@pytest.fixture
def ovip_folder(shared_data, tmp_path):
    """OViP's published rows, registered."""
    folder = tmp_path / "info"
    folder.mkdir()
    entry = {
        "file_name": str(shared_data / "ovip_sample/data/ovip_sample.json"),
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {
            "messages": "conversations",
            "images": "images",
            "chosen": "chosen",
            "rejected": "rejected",
        },
    }
    (folder / "dataset_info.json").write_text(json.dumps({"ovip": entry}))
    return folder


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize("ranks", [1, 2])
def test_published_command_line_on_real_photos(run_cli, tiny_models, ovip_folder, shared_data, tmp_path, ranks):
    """OViP's own flags with an offline strategy; resumable, so without --save_only_model."""
    output = tmp_path / "run"
    done = run_cli(
        "llamafactory-cli",
        "train",
        *PUBLISHED_FLAGS,
        *("--strategy", "orm", "--dataset", "ovip", "--dataset_dir", ovip_folder),
        *("--ds_path", shared_data / "ovip_sample/data/ovip_sample.json"),
        *("--media_dir", shared_data / "ovip_sample/data", "--output_dir", output),
        *("--model_name_or_path", tiny_models("llava")),
        timeout=280,
        env={"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2", "OMP_NUM_THREADS": "1"} if ranks == 2 else {},
    )
    assert done.returncode == 0
    assert "Both image slots hold" in done.stdout + done.stderr  # both slots name the real photo: a warning
    assert losses(output)[0] == pytest.approx(3 * 0.693147, abs=1e-4)
    assert len(losses(output)) == 12 // ranks  # six rows of one photo train, twice
    assert "eval_rewards/image_margins" in history(output)[-1] or any("eval_loss" in item for item in history(output))


@pytest.mark.slow
@pytest.mark.dist
def test_metrics_and_evaluation_of_two_ranks_are_those_of_one(settings, train, train_cli, tmp_path):
    """Seven rows in global batches of four; the second step is ragged."""
    common = {"max_samples": 7, "max_steps": None, "num_train_epochs": 2.0, "eval_dataset": "ovip_eval"}
    common |= {"eval_strategy": "epoch", "per_device_eval_batch_size": 5}
    one = train(settings(**common, output_dir=str(tmp_path / "one"), per_device_train_batch_size=4))
    two = train_cli(
        settings(
            **common,
            output_dir=str(tmp_path / "two"),
            per_device_train_batch_size=1,
            gradient_accumulation_steps=2,
        ),
        ranks=2,
    )
    assert len(one.losses) == 4
    assert one.losses == pytest.approx(two.losses, abs=2e-5)
    assert one.logged("eval_loss") == pytest.approx(two.logged("eval_loss"), abs=2e-5)
    for name in ("rewards/margins", "rewards/image_margins", "logps/chosen", "loss/cdpo"):
        assert one.logged(name) == pytest.approx(two.logged(name), abs=2e-3), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_stock_stages_are_bit_identical_with_and_without_the_plugin(settings, train_cli, tmp_path, stage):
    dataset = {"sft": "mmself_sft", "dpo": "mmself_text_pairs"}[stage]
    runs = [
        train_cli(
            settings(stage=stage, strategy=None, dataset=dataset, output_dir=str(tmp_path / switch)),
            env={"LLAMAFACTORY_MMSELF": switch},
        )
        for switch in ("on", "off")
    ]
    assert runs[0].losses == runs[1].losses
    assert all(torch.equal(value, runs[1].weights[name]) for name, value in runs[0].weights.items())


def test_off_means_off(settings, run_cli, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings()))
    done = run_cli("llamafactory-cli", "train", config, env={"LLAMAFACTORY_MMSELF": "off"})
    assert done.returncode != 0 and "strategy" in done.stderr  # stock LLaMA-Factory does not know the key
    done = run_cli("mmself", "train", config, env={"LLAMAFACTORY_MMSELF": "off"})
    assert done.returncode == 2 and "switches the plugin off" in done.stderr


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize("ranks", [1, 2])
def test_mmself_train_needs_no_autoload(settings, train_cli, ranks):
    result = train_cli(settings(), ranks, env={"LLAMAFACTORY_MMSELF": "manual"}, command="mmself")
    assert len(result.losses) == 2


@pytest.mark.slow
def test_a_patched_llamafactory_needs_no_autoload(settings, train_cli, project_root, tmp_path):
    import llamafactory

    site = tmp_path / "patched"
    shutil.copytree(Path(llamafactory.__file__).parent, site / "llamafactory")
    patch = project_root / "patches" / "llamafactory-0.9.5-entry-points.patch"
    subprocess.run(["patch", "-s", "-p2", "-d", str(site), "-i", str(patch)], check=True)
    env = {"PYTHONPATH": str(site), "LLAMAFACTORY_MMSELF": "manual"}
    assert len(train_cli(settings(), env=env).losses) == 2


THIRD_PARTY = {
    "echo_stage/__init__.py": "",
    "echo_stage/arguments.py": """
        from dataclasses import dataclass, field

        from llamafactory_mmself.stages.mdpo.arguments import MDPOArguments


        @dataclass
        class EchoArguments(MDPOArguments):
            echo_scale: float = field(default=1.0, metadata={"help": "Scale of the loss."})
        """,
    "echo_stage/stage.py": """
        from dataclasses import replace

        from llamafactory_mmself.stages.mdpo.stage import MDPOStage


        class EchoStage(MDPOStage):
            name = "echo_dpo"
            arguments = "echo_stage.arguments:EchoArguments"
            help = "a scaled copy of mdpo."

            def loss(self, policy, reference, side, run):
                output = super().loss(policy, reference, side, run)
                return replace(output, value=output.value * run.stage.echo_scale)


        STAGE = EchoStage()
        """,
    "echo_stage/formats.py": """
        class QuestionConverter:
            def __init__(self, dataset_attr, data_args):
                self.media_dir = data_args.media_dir

            def __call__(self, row):
                return {
                    "_prompt": [{"role": "user", "content": "<image>" + row["q"]}],
                    "_response": [
                        {"role": "assistant", "content": row["good"]},
                        {"role": "assistant", "content": row["bad"]},
                    ],
                    "_system": "",
                    "_tools": "",
                    "_images": [row["picture"]],
                    "_rejected_images": [row["other"]],
                    "_videos": None,
                    "_audios": None,
                }
        """,
    "echo_stage-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: echo-stage\nVersion: 1.0\n",
    "echo_stage-1.0.dist-info/entry_points.txt": """
        [llamafactory.stages]
        echo-dpo = echo_stage.stage:STAGE

        [llamafactory.dataset_formats]
        questions = echo_stage.formats:QuestionConverter
        """,
}


@pytest.fixture
def third_party(tmp_path):
    """Another package with a stage and a data-set format of its own."""
    site = tmp_path / "site"
    for name, text in THIRD_PARTY.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return site


@pytest.mark.slow
def test_another_package_adds_a_stage_and_a_format(settings, train_cli, run_cli, third_party, project_root, tmp_path):
    rows = [
        {
            "q": "What is it?",
            "good": "A shape.",
            "bad": "A horse.",
            "picture": "images/0001.png",
            "other": "images/0002.png",
        },
        {"q": "Is it red?", "good": "Yes.", "bad": "No.", "picture": "images/0002.png", "other": "images/0001.png"},
    ]
    data = tmp_path / "data"
    shutil.copytree(project_root / "data" / "images", data / "images")
    names = sorted(path.name for path in (data / "images").iterdir())
    for row in rows:
        row["picture"], row["other"] = (str(data / "images" / names[place]) for place in (0, 1))
    (data / "rows.json").write_text(json.dumps(rows))
    entry = {"file_name": "rows.json", "formatting": "questions", "ranking": True}
    (data / "dataset_info.json").write_text(json.dumps({"questions": entry}))

    env = {"PYTHONPATH": str(third_party)}
    arguments = settings(stage="Echo-DPO", dataset="questions", dataset_dir=str(data), max_samples=None)
    plain = train_cli(arguments, env=env)
    scaled = train_cli({**arguments, "echo_scale": 3.0, "output_dir": str(tmp_path / "scaled")}, env=env)
    assert scaled.losses[0] == pytest.approx(3 * plain.losses[0], rel=1e-6)
    doctor = run_cli("mmself", "doctor", env=env)
    assert "echo_dpo" in doctor.stdout and "questions" in doctor.stdout


def test_doctor(run_cli):
    done = run_cli("mmself", "doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0 and findings["healthy"] and findings["active"]
    assert {"mdpo"} <= {stage["name"] for stage in findings["stages"]}
    replaced = {item["symbol"] for item in findings["symbols"] if item["kind"] == "replaced"}
    assert "llamafactory.train.tuner.run_dpo" in replaced
    text = run_cli("mmself", "doctor").stdout
    assert "LLaMA-Factory 0.9.5 (tested with it)" in text and "All is well." in text


def test_validate_command(run_cli, settings, project_root, tmp_path):
    good = run_cli("mmself", "validate", "mmself_pairs", "--dataset_dir", project_root / "data")
    assert good.returncode == 0 and "ok" in good.stdout
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings(cutoff_len=40)))
    tight = run_cli("mmself", "validate", config)
    assert tight.returncode == 1
    assert "cutoff_len" in tight.stdout and "mmself_pairs.json" in tight.stdout
    report = json.loads(run_cli("mmself", "validate", config, "--json").stdout)
    assert report[0]["faults"][0]["code"] == "media-cut"
    missing = run_cli("mmself", "validate", tmp_path / "nothing.yaml")
    assert missing.returncode == 2 and "no file" in missing.stderr


def test_stock_dpo_reads_our_rows_in_our_format(settings, train_cli, project_root, tmp_path):
    """`"formatting": "mmself"` gives two-image rows to LLaMA-Factory's own stages."""
    data = tmp_path / "data"
    shutil.copytree(project_root / "data", data)
    info = json.loads((data / "dataset_info.json").read_text())
    info["pairs"] = {**info["mmself_pairs"], "formatting": "mmself"}
    (data / "dataset_info.json").write_text(json.dumps(info))
    result = train_cli(settings(stage="dpo", strategy=None, dataset="pairs", dataset_dir=str(data)))
    assert result.losses[0] == pytest.approx(0.6931, abs=1e-3)
