# SPDX-License-Identifier: Apache-2.0
"""The recipe of a small loop."""

from typing import Any


RECIPE: dict[str, Any] = {
    "method": "r3v",
    "template": "qwen2_vl",
    "verifier": "toy",
    "iterations": 2,
    "output_dir": "runs/toy-loop",
    "base_model": "model",
    "train_data": "world/train.json",
    "test_data": "world/test.json",
    "engine": {"batch_size": 8, "device": "cpu"},
    "sampling": {"n": 2, "temperature": 0.9, "max_new_tokens": 96},
    "train": {
        "finetuning_type": "lora",
        "lora_rank": 4,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "max_steps": 6,
        "save_steps": 2,
        "logging_steps": 1,
    },
}
