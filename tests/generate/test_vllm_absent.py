# SPDX-License-Identifier: Apache-2.0
"""The vllm engine where vLLM is not installed; see tests/vllm for where it is."""

import sys

import pytest

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.engines import build_engine
from llamafactory_mmself.generate.types import EngineError


def test_what_to_install_is_said(tiny_models, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    settings = {"name": "vllm", "model": str(tiny_models("qwen2_vl")), "template": "qwen2_vl"}
    with pytest.raises(EngineError, match=r"vLLM is not installed\. Install it .* or use the engine `hf`"):
        build_engine(EngineConfig.from_dict(settings))
