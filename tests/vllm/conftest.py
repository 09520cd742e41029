# SPDX-License-Identifier: Apache-2.0
"""vLLM on the CPU, in an environment of its own: `make test-vllm`."""

import os

import pytest

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.engines import build_engine


# Read when vLLM is imported: a small cache, no second process, no compiler.
VLLM_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",
}
os.environ.update(VLLM_ENVIRONMENT)

#: Of `vllm.LLM`, for tiny models.
TINY = {"enforce_eager": True, "max_model_len": 512, "max_num_seqs": 16}


@pytest.fixture(scope="session")
def engines():
    """Builds engines, each once: `engines(name="vllm", model=..., ...)`."""
    built = {}

    def build(**settings):
        if settings["name"] == "vllm":
            settings["vllm"] = TINY
        key = repr(sorted(settings.items()))
        if key not in built:
            built[key] = build_engine(EngineConfig.from_dict({"dtype": "float32", **settings}))
        return built[key]

    yield build
    for engine in built.values():
        engine.close()
