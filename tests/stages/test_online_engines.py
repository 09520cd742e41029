# SPDX-License-Identifier: Apache-2.0
"""Samples from a server that is handed the adapter of each step."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import yaml

from llamafactory_mmself.data.rows import PreferenceRow
from llamafactory_mmself.data.turns import Turn
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.types import EngineError, SamplingParams
from llamafactory_mmself.stages.base import RunArguments, SettingError
from llamafactory_mmself.stages.mdpo.online.engines import ADAPTERS, EngineRollouts, Server, as_request, engine_of
from llamafactory_mmself.stages.mdpo.online.prompts import OnlinePrompt


@pytest.fixture
def server():
    """A server that notes what it is asked, and answers with the name of the model it is asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            refused = body.get("lora_path", "").endswith("step-13")
            content = b"no such adapter" if refused else b"Success"
            if self.path.endswith("/chat/completions"):
                choice = {"message": {"content": body["model"]}, "finish_reason": "stop"}
                content = json.dumps({"choices": [choice] * body.get("n", 1)}).encode()
            self.send_response(400 if refused else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield SimpleNamespace(base=f"http://127.0.0.1:{http.server_port}/v1", asked=asked)
    http.shutdown()
    http.server_close()


class Model:
    """Saves itself as adapters do."""

    def save_pretrained(self, folder):
        from pathlib import Path

        Path(folder).mkdir(parents=True)


PROMPT = OnlinePrompt(
    PreferenceRow("k", "f", 1, "Be kind.", "", (Turn("user", "why?"),), "ref", ("",)), (1,), (), (2,)
)


def rollouts(server, folder):
    config = EngineConfig(name="openai", api_base=server.base, retries=0)
    return EngineRollouts(SamplingParams(n=2, max_new_tokens=3), folder, Server(config))


def test_each_step_samples_with_its_own_adapter(server, tmp_path):
    sampler, model = rollouts(server, tmp_path), Model()
    texts = []
    for step in (0, 0, 1, 5):
        sampler.refresh(model, step)
        texts.append({item.text for item in sampler(model, [PROMPT], seed=1)[0]})
    assert [len(found) for found in texts] == [1, 1, 1, 1]
    assert [found.pop().rpartition("-")[2] for found in texts] == ["0", "0", "1", "5"]
    loads = [body["lora_name"] for path, body in server.asked if path == "/v1/load_lora_adapter"]
    unloads = [body["lora_name"] for path, body in server.asked if path == "/v1/unload_lora_adapter"]
    assert len(loads) == 3 and unloads == loads[:2]
    assert sorted(path.name for path in (tmp_path / ADAPTERS).iterdir()) == ["step-1", "step-5"]


def test_a_server_that_refuses_says_why(server, tmp_path):
    with pytest.raises(EngineError, match=r"no such adapter.*--enable-lora"):
        rollouts(server, tmp_path).refresh(Model(), 13)


def test_what_an_engine_is_asked():
    request = as_request(PROMPT.row, "k/0")
    assert [(turn.role, turn.content) for turn in request.messages] == [("system", "Be kind."), ("user", "why?")]


def run_with(tmp_path, engine, **changes):
    path = tmp_path / "engine.yaml"
    path.write_text(yaml.safe_dump(engine))
    values = {"finetuning_type": "lora", "world_size": 1, **changes}
    return RunArguments(
        stage=SimpleNamespace(rollout_engine=str(path)),
        model=SimpleNamespace(
            model_name_or_path="m", adapter_name_or_path=None, image_max_pixels=12544, add_tokens=["<a>", "<b>"]
        ),
        data=SimpleNamespace(template="qwen2_vl", default_system="Be kind."),
        finetuning=SimpleNamespace(finetuning_type=values["finetuning_type"]),
        training=SimpleNamespace(world_size=values["world_size"]),
    )


def test_engines_read_prompts_as_training_does(tmp_path):
    engine = {"name": "vllm", "llamafactory": {"image_max_pixels": 12544}}
    config = engine_of(run_with(tmp_path, engine))
    assert config.pixels[1] == 12544
    assert config.llamafactory["default_system"] == "Be kind." and config.llamafactory["add_tokens"] == "<a>,<b>"
    engine["llamafactory"]["image_max_pixels"] = 99
    with pytest.raises(EngineError, match=r"engine.yaml.*image_max_pixels.*Leave it out"):
        engine_of(run_with(tmp_path, engine))


@pytest.mark.parametrize(
    ("engine", "changes", "words"),
    [
        ({"name": "hf"}, {}, "leave it at hf"),
        ({"name": "openai", "api_base": "http://x/v1"}, {"finetuning_type": "full"}, "finetuning_type: lora"),
        ({"name": "vllm"}, {"world_size": 2}, "one process only"),
    ],
)
def test_engines_that_cannot_follow_the_weights_are_refused(tmp_path, engine, changes, words):
    with pytest.raises(SettingError, match=words):
        engine_of(run_with(tmp_path, engine, **changes))
