# SPDX-License-Identifier: Apache-2.0
"""Online strategies of stage `mdpo` in whole runs, as users start them."""

import hashlib
import io
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from llamafactory_mmself.generate import breaker, client
from llamafactory_mmself.generate.services import ServiceDead
from tests.generate.fake_server import GARBAGE, Reply, choices, error, painted

from .conftest import Result, same_weights


HERE = Path(__file__).resolve().parent


def services(folder, **changes):
    """A services file with the scripted ones; keyword arguments change sections."""
    sections = {name: {"engine": f"online_services:{name}"} for name in ("judge", "describer", "painter", "checks")}
    for name, values in changes.items():
        sections[name] |= values
    path = folder / f"services{len(list(folder.glob('services*')))}.yaml"
    path.write_text(yaml.safe_dump(sections))
    return str(path)


@pytest.fixture
def online(settings, shared_data, tmp_path, monkeypatch):
    """Arguments of a small run on OViP's published sample; keyword arguments change them, None removes one."""
    monkeypatch.syspath_prepend(HERE)
    data = shared_data / "ovip_sample" / "data"

    def make(family="qwen2_vl", **changes):
        arguments = {
            "strategy": "online-orm",
            "dataset": None,
            "dataset_dir": None,
            "ds_path": str(data / "ovip_sample.json"),
            "media_dir": str(data),
            "services": changes.get("services") or services(tmp_path),
            "image_max_pixels": 112 * 112,
            "cutoff_len": 700,
            "max_steps": None,
            "max_samples": 4,
            "num_train_epochs": 1,
            "per_device_train_batch_size": 1,
            "exp_per_batch": 1,
            "experience_buffer": True,
            "rollout_n": 4,
            "rollout_max_new_tokens": 8,
            "rollout_sync": True,
            "pair_rule": "published",
            "not_half_dpo_loss": True,
        }
        return settings(family, **{**arguments, **changes})

    return make


def lines(result, name):
    return [json.loads(line) for line in (result.folder / name).read_text().splitlines()]


def resumed(train, arguments, whole, step, tmp_path):
    """The run, killed after a step and started again: with that checkpoint and what lies beside it."""
    folder = tmp_path / f"resumed{step}"
    shutil.copytree(whole.folder, folder)
    for name in ("adapter_model.safetensors", "trainer_state.json"):
        (folder / name).unlink()
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{step}":
            shutil.rmtree(checkpoint)
    checkpoint = str(folder / f"checkpoint-{step}")
    return train({**arguments, "output_dir": str(folder), "resume_from_checkpoint": checkpoint})


@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_a_run_samples_judges_paints_and_trains(online, train, family):
    result = train(online(family))
    assert len(result.losses) == 4 and all(map(math.isfinite, result.losses))
    first = result.history[0]
    assert first["loss"] == pytest.approx(3 * math.log(2), abs=1e-4)  # policy and reference agree before step 1
    assert {"loss/rdpo", "generation_score", "experience/accepted", "wait_share", "time/score"} <= set(first)
    samples, pairs = lines(result, "online_sample_data.jsonl"), lines(result, "data.jsonl")
    assert len(samples) == 4 and {"sample", "num_sampled", "steps", "node_rank"} <= set(samples[0])
    assert {"score", "response", "prompt", "ground_truth"} == set(samples[0]["sample"][0])
    assert all(Path(pair["image"]).is_file() for pair in pairs) and "<image>" not in pairs[0]["prompt"]
    assert {line["tag"] for line in lines(result, "time_log.jsonl")} >= {"sample", "score", "desc", "neg_img", "train"}


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("online-dpo", {"not_half_dpo_loss": None}),
        ("online-sft", {"not_half_dpo_loss": None, "experience_half_life": 2.0}),
        ("online-mdpo", {"not_half_dpo_loss": None, "experience_replay": 2}),
        ("online-orm", {"vtcl_mode": "sameBatch", "rollout_sync": None}),
    ],
)
def test_other_strategies_sample_too(online, train, strategy, changes):
    result = train(online(strategy=strategy, max_samples=2, **changes))
    assert len(result.losses) == 2 * changes.get("experience_replay", 1)
    assert all(map(math.isfinite, result.losses))
    assert (result.folder / "images").exists() == (strategy not in ("online-dpo", "online-sft"))


def test_a_run_in_turn_can_be_repeated_and_resumed(online, train, tmp_path):
    arguments = online(save_strategy="steps", save_steps=1)
    whole = train(arguments)
    again = train({**arguments, "output_dir": str(tmp_path / "again"), "save_strategy": "no"})
    assert same_weights(whole, again)
    for step in (1, 3):
        found = resumed(train, arguments, whole, step, tmp_path)
        assert same_weights(whole, found)
        assert lines(found, "online_sample_data.jsonl") == lines(whole, "online_sample_data.jsonl")


@pytest.mark.trajectory
@pytest.mark.parametrize("strategy", ["online-orm", "grpo"])
def test_packed_dense_and_accumulated_runs_agree(online, grpo, train, recorded, strategy):
    make = grpo if strategy == "grpo" else online
    dense = train(make(tree_forward="dense", gradient_accumulation_steps=2, exp_per_batch=1))
    recorded(strategy, dense)
    packed = train(make(tree_forward="packed", exp_per_batch=2))
    assert len(dense.losses) == 2
    assert packed.losses == pytest.approx(dense.losses, abs=1e-4)


def test_evaluation_and_a_dummy_data_set(online, train, project_root):
    changes = {"dataset": "dummy", "eval_dataset": "ovip_eval", "dataset_dir": str(project_root / "data")}
    changes["media_dir"] = None  # pictures of the prompts are found beside their file
    result = train(online(max_samples=2, do_eval=True, eval_strategy="steps", eval_steps=1, **changes))
    assert len(result.logged("eval_loss")) >= 2 and result.logged("eval_loss/text_dpo")


def test_a_dead_judge_stops_the_run_with_a_checkpoint(online, train, tmp_path):
    arguments = online(services=services(tmp_path, judge={"dies_at": 3}))
    with pytest.raises(ServiceDead, match="answered nothing"):
        train(arguments)
    folder = Path(arguments["output_dir"])
    (checkpoint,) = folder.glob("checkpoint-*")
    assert checkpoint.name == "checkpoint-2"
    alive = {"services": services(tmp_path), "resume_from_checkpoint": str(checkpoint)}
    found = train({**arguments, **alive})
    other = train({**online(), "output_dir": str(tmp_path / "never")})
    assert same_weights(found, other)


def test_pairs_that_get_no_picture_are_counted(online, train, tmp_path):
    result = train(online(services=services(tmp_path, painter={"fails": 1}), rollout_sync=None))
    assert result.losses == []
    result = train(online(services=services(tmp_path, judge={"unreadable": 2}), max_steps=2))
    assert result.logged("experience/unscored")[-1] > 0 and len(result.losses) == 2


def test_overlap_hides_slow_services(online, train, tmp_path):
    slow = services(tmp_path, **{name: {"delay": 0.2} for name in ("judge", "describer", "painter")})
    waited = {}
    for sync in (True, False):
        result = train(online(services=slow, rollout_sync=sync, rollout_ahead=7, max_steps=8))
        waited[sync] = sum(result.logged("time/wait"))
    assert waited[True] >= 8 * 0.6
    assert waited[True] > 2.5 * waited[False]


def scripted(body):
    """A judge, a describer and a painter behind one address; what they say follows from what they are asked."""
    if not body:
        return Reply({"data": []})
    asked = body.get("prompt") or body["messages"][0]["content"]
    digest = hashlib.sha256(asked.encode()).digest()
    if "prompt" in body:
        file = io.BytesIO()
        Image.new("RGB", (56, 56), tuple(digest[:3])).save(file, "PNG")
        return painted(file.getvalue())
    return choices(f'{{"score": {digest[0] % 11}}}' if "You grade" in asked else f"Picture {digest.hex()[:8]}.")


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A services file for one address, with short pauses."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(breaker, "FIRST_REST", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_REST", 0.2)

    def make(base, **place):
        place = {"api_base": base, "timeout": 1.0, "dead_after": 20.0, "retries": 8, **place}
        path = tmp_path / f"remote{len(list(tmp_path.glob('remote*')))}.yaml"
        checks = {"engine": "online_services:checks"}
        path.write_text(
            yaml.safe_dump({"judge": {**place, "tries": 3}, "painter": {**place, "size": "56x56"}, "checks": checks})
        )
        return str(path)

    return make


def test_unreliable_services_change_nothing(online, train, serve, remote, tmp_path):
    """One request in five fails, comes too late or is answered with garbage, and all are dead for a while."""
    dice = random.Random(2)
    outage = []

    def faulty(body, number):
        if body and number >= 10 and not outage:
            outage.append(time.monotonic() + 1.5)
        if outage and time.monotonic() < outage[0]:
            return error(503, "starting")
        if not body or dice.random() > 0.2:
            return scripted(body)
        return dice.choice((error(dice.choice((500, 502, 429)), "oops"), replace(scripted(body), delay=1.2), *GARBAGE))

    runs = []
    for answer in (lambda body, number: scripted(body), faulty):
        changes = {"services": remote(serve(answer).base), "output_dir": str(tmp_path / f"run{len(runs)}")}
        runs.append(train(online(**changes)))
    right, found = runs
    assert outage and len(right.losses) == 4
    assert lines(found, "online_sample_data.jsonl") == lines(right, "online_sample_data.jsonl")
    pairs = [[{**pair, "image": Path(pair["image"]).name} for pair in lines(run, "data.jsonl")] for run in runs]
    assert pairs[0] == pairs[1]
    assert same_weights(found, right)


def test_a_hanging_service_ends_the_run_in_time(online, train, serve, remote):
    hung = []

    def answer(body, number):
        if number < 12:
            return scripted(body)
        hung.append(time.monotonic())
        return Reply("", delay=4.0)

    arguments = online(services=remote(serve(answer).base, dead_after=3.0), save_strategy="steps", save_steps=100)
    with pytest.raises(ServiceDead, match="is dead"):
        train(arguments)
    assert time.monotonic() - hung[0] < 3.0 + 30.0
    assert list(Path(arguments["output_dir"]).glob("checkpoint-*"))


# GRPO


@pytest.fixture
def grpo(online):
    def make(family="qwen2_vl", **changes):
        unread = {"pair_rule": None, "not_half_dpo_loss": None}
        return online(family, **{"strategy": "grpo", **unread, **changes})

    return make


@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_groups_are_trained_on_with_true_old_log_probs(grpo, train, family):
    result = train(grpo(family, experience_replay=2, grpo_ground_truth=True, learning_rate=1e-2))
    assert len(result.losses) == 8
    deviations = result.logged("ratio_deviation")
    assert deviations[0] < 1e-4 < deviations[1]  # the second update starts from the same old policy
    weights = result.logged("importance_weight")
    assert weights[0] == pytest.approx(1, abs=1e-2)
    (sample, *_) = lines(result, "online_sample_data.jsonl")
    assert (
        sample["sample"][-1]["score"] == 10
        and sample["sample"][-1]["response"] == sample["sample"][-1]["ground_truth"]
    )


def test_the_published_variant_and_its_parts(grpo, train):
    result = train(grpo(quirks="published", grpo_ground_truth=True, grpo_chunk=3, max_samples=2))
    assert 2 <= len(result.losses) <= 4 and not any(result.logged("ratio_deviation"))


@pytest.mark.parametrize("term", ["no_image", "negative"])
def test_the_image_term(grpo, train, term):
    result = train(grpo(grpo_image_term=term, max_samples=2))
    expected = math.log(2) * (2 if term == "negative" else 1)
    assert result.logged("image_loss")[0] == pytest.approx(expected, abs=1e-4)


def test_grpo_resumes_inside_its_updates(grpo, train, tmp_path):
    arguments = grpo(experience_replay=2, max_samples=2, save_strategy="steps", save_steps=1)
    whole = train(arguments)
    assert same_weights(whole, resumed(train, arguments, whole, 1, tmp_path))


@pytest.mark.slow
def test_a_policy_learns_what_the_judge_pays(grpo, train, tmp_path):
    changes = {"finetuning_type": "full", "learning_rate": 3e-3, "lr_scheduler_type": "constant", "pref_beta": 0.0}
    paid = {"services": services(tmp_path, judge={"engine": "online_services:vowels"})}
    result = train(grpo(rollout_n=8, max_steps=25, max_samples=4, exp_per_batch=4, **changes, **paid))
    scores = result.logged("generation_score")
    assert scores[-1] > scores[0] + 1.5


# As users start them.

PUBLISHED = """--stage mdpo --do_train True --vtcl_mode single --strategy online-orm --not_half_dpo_loss
--anchor_ratio 0.0
--experience_buffer --exp_per_batch 1 --finetuning_type lora --pref_beta 0.1 --per_device_train_batch_size 1
--gradient_accumulation_steps 1 --lr_scheduler_type cosine --learning_rate 1e-6 --num_train_epochs 2 --logging_steps 1
--save_strategy steps --save_steps 4 --save_only_model --overwrite_output_dir --report_to none"""


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_published_command(online, run_cli, tmp_path, ranks):
    names = ("model_name_or_path", "template", "ds_path", "media_dir", "services", "image_max_pixels", "cutoff_len")
    arguments = online(max_samples=3)
    own = [
        text
        for name in (*names, "rollout_n", "rollout_max_new_tokens", "max_samples", "output_dir")
        for text in (f"--{name}", str(arguments[name]))
    ]
    env = {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(ranks)}
    done = run_cli("llamafactory-cli", "train", *PUBLISHED.split(), *own, timeout=280, env=env)
    assert done.returncode == 0
    result = Result(Path(arguments["output_dir"]))
    assert 1 <= len(result.losses) <= 6
    positions = [line["position"] for line in lines(result, "online_sample_data.jsonl")]
    assert sorted(positions) == list(range(len(positions)))


@pytest.mark.dist
@pytest.mark.slow
def test_two_ranks_train_as_one(online, train, train_cli, deepspeed_config, tmp_path):
    """With DDP, and with optimizer and gradients dealt out."""
    changes = {"optim": "sgd", "learning_rate": 0.05}
    env = {"PYTHONPATH": str(HERE)}
    one = train(online(gradient_accumulation_steps=2, **changes))
    for name, layout in (("ddp", {}), ("zero", {"deepspeed": deepspeed_config(2)})):
        two = train_cli(online(output_dir=str(tmp_path / name), **layout, **changes), ranks=2, env=env)
        assert two.losses == pytest.approx(one.losses, abs=1e-5)


@pytest.mark.slow
def test_a_killed_process_goes_on(online, clean_environment, tmp_path):
    """SIGKILL mid-way while services are slow; the same command again finishes, and no entry is lost or repeated."""
    slow = services(tmp_path, judge={"delay": 0.2}, painter={"delay": 0.2})
    arguments = online(services=slow, save_strategy="steps", save_steps=2, num_train_epochs=2, rollout_sync=None)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(arguments))
    command = [str(Path(sys.executable).parent / "llamafactory-cli"), "train", str(config)]
    environment = clean_environment(PYTHONPATH=str(HERE))
    folder = Path(arguments["output_dir"])
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint-2" / "trainer_state.json").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, env=environment, check=True, timeout=200, capture_output=True)
    result = Result(folder)
    positions = [line["position"] for line in lines(result, "online_sample_data.jsonl")]
    assert sorted(positions) == list(range(8))
    ids = [line["id"] for line in lines(result, "data.jsonl")]
    assert len(ids) == len(set(ids))
    sampled = [
        group["position"]
        for path in (folder / "experience").glob("*.jsonl")
        for line in path.read_text().splitlines()
        for group in json.loads(line).get("groups", ())
    ]
    assert len(sampled) == len(set(sampled)) == 8
