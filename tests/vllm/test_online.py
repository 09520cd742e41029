# SPDX-License-Identifier: Apache-2.0
"""One online round of stage `mdpo` with vLLM in process, and one against a server that is handed adapters."""

import json
from pathlib import Path

import pytest
import yaml

from tests.generate.servers import free_port, running
from tests.vllm.conftest import TINY, VLLM_ENVIRONMENT


HERE = Path(__file__).resolve().parent


@pytest.fixture
def train(tiny_models, shared_data, tmp_path, monkeypatch):
    """Trains a tiny Qwen2-VL on OViP's published sample with some rollout engine; gives the run's log."""
    from llamafactory_mmself import _autoload

    monkeypatch.syspath_prepend(HERE.parent / "e2e")
    _autoload.activate()
    from llamafactory.train.tuner import run_exp

    data = shared_data / "ovip_sample" / "data"
    services = {name: {"engine": f"online_services:{name}"} for name in ("judge", "describer", "painter", "checks")}

    def run(engine, **changes):
        for name, values in (("services", services), ("engine", engine)):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
        run_exp(
            {
                "model_name_or_path": str(tiny_models("qwen2_vl")),
                "template": "qwen2_vl",
                "stage": "mdpo",
                "do_train": True,
                "finetuning_type": "lora",
                "ds_path": str(data / "ovip_sample.json"),
                "media_dir": str(data),
                "services": str(tmp_path / "services.yaml"),
                "rollout_engine": str(tmp_path / "engine.yaml"),
                "rollout_n": 4,
                "rollout_max_new_tokens": 8,
                "rollout_sync": True,
                "exp_per_batch": 1,
                "image_max_pixels": 112 * 112,
                "cutoff_len": 500,
                "max_steps": 3,
                "learning_rate": 1e-2,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "output_dir": str(tmp_path / "run"),
                **changes,
            }
        )
        state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
        return [entry for entry in state["log_history"] if "loss" in entry]

    return run


def test_vllm_in_process_follows_the_weights(train):
    """What vLLM says of a token is what training says of it, at every step: the adapter has arrived."""
    history = train({"name": "vllm", "dtype": "float32", "vllm": TINY}, strategy="grpo")
    assert len(history) == 3
    assert all(entry["importance_weight"] == pytest.approx(1, abs=0.02) for entry in history)


def test_a_server_is_handed_each_steps_adapter(train, tiny_models, clean_environment, tmp_path):
    port = free_port()
    command = ["vllm", "serve", str(tiny_models("qwen2_vl")), "--served-model-name", "tiny", "--enforce-eager"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enable-lora"]
    command += ["--max-model-len", str(TINY["max_model_len"]), "--max-num-seqs", str(TINY["max_num_seqs"])]
    command += ["--limit-mm-per-prompt", '{"video": 0}']
    more = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "OMP_NUM_THREADS": "1"}
    with running(command, port, clean_environment(**VLLM_ENVIRONMENT, **more), tmp_path / "log.txt") as base:
        history = train({"name": "openai", "api_base": base}, strategy="online-orm")
    assert len(history) == 3 and len(list((tmp_path / "run" / "rollout_adapters").iterdir())) == 2
