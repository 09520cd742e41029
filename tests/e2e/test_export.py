# SPDX-License-Identifier: Apache-2.0
"""What was trained can be exported, loaded and asked."""

import asyncio
from collections.abc import Iterator

import pytest
from transformers import TrainerCallback


pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def event_loop() -> Iterator[None]:
    """LLaMA-Factory's chat engine makes a loop the current one if there is none, and never closes it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("event_loop")
@pytest.mark.parametrize(("family", "template"), [("qwen2_vl", "qwen2_vl"), ("llava", "llava")])
def test_export_and_chat(settings, train, project_root, tmp_path, family, template):
    arguments = settings(family)
    train(arguments)
    from llamafactory.chat import ChatModel
    from llamafactory.train.tuner import export_model

    exported = str(tmp_path / "exported")
    common = {"template": template, "trust_remote_code": False}
    export_model(
        {
            **common,
            "model_name_or_path": arguments["model_name_or_path"],
            "adapter_name_or_path": arguments["output_dir"],
            "stage": "mdpo",
            "export_dir": exported,
            "infer_dtype": "float32",
        }
    )
    picture = str(next((project_root / "data" / "images").glob("*.png")))
    asked = [{"role": "user", "content": "<image>What is shown?"}]
    replies = []
    for model in ({"model_name_or_path": exported}, {"adapter_name_or_path": arguments["output_dir"]}):
        base = {"model_name_or_path": arguments["model_name_or_path"], "infer_dtype": "float32"}
        chat = ChatModel({**common, **base, **model})
        options = {"images": [picture], "max_new_tokens": 8, "do_sample": False, "temperature": None}
        replies.append(chat.chat(asked, **options)[0].response_text)
    assert replies[0] == replies[1]


def test_loggers_get_every_term(settings, train):
    """What a logger such as TensorBoard or Weights & Biases sees at each step."""
    seen = []

    class Recorder(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    from llamafactory.train.tuner import run_exp

    run_exp(settings("llava", eval_dataset="ovip_eval", eval_strategy="steps", eval_steps=2), [Recorder()])
    steps = [entry for entry in seen if "loss" in entry]
    evaluations = [entry for entry in seen if "eval_loss" in entry]
    names = {"loss/cdpo", "loss/rdpo", "loss/text_dpo", "rewards/margins", "rewards/image_margins", "logps/chosen"}
    assert len(steps) == 2 and all(names <= set(entry) for entry in steps)
    assert evaluations and {f"eval_{name}" for name in names} <= set(evaluations[0])
