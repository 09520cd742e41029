# SPDX-License-Identifier: Apache-2.0
"""The `vllm` engine: vLLM in this process, with prompts from LLaMA-Factory's template and adapters unmerged."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config import EngineConfig
from .decoding import Answer, Ending
from .encoding import PromptEncoder, inference_arguments, prompt_encoder
from .policy import policy_of
from .seeds import derived_seed
from .types import Completion, EngineError, Request, SamplingParams
from .vllm_names import register


RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM's LoRA kernels come in
#: Words in the names of weights that belong to the picture's side of a model.
PICTURE_SIDE = ("visual", "vision", "projector", "connector", "merger", "image")

INSTALL = (
    "Install it into an environment of its own, `pip install 'llamafactory-mmself[vllm]'` (see "
    "requirements/constraints-vllm.txt), or use the engine `hf`, which needs nothing more."
)


class VLLMEngine:
    """Samples with vLLM; see `Engine`.

    Prompt ids are those of training, pictures have the same limits of pixels, and answers end at the template's stop
    tokens. Each request has a seed of its own, made from the call's seed and its id, so that its samples do not depend
    on the batch it comes in, as far as vLLM's kernels allow.

    Args:
        config: uses `model`, `adapter` (one at most), `template`, `dtype`, `device`, `llamafactory` and `vllm`. Give
            further arguments of `vllm.LLM` in the latter: `tensor_parallel_size`, `gpu_memory_utilization`,
            `max_model_len`, `enforce_eager`, ...

    Raises:
        EngineError: vLLM is not installed or does not start, does not serve the model's family, or cannot apply the
            adapter.
    """

    name = "vllm"

    def __init__(self, config: EngineConfig) -> None:
        from ..plugin import lf

        vllm = _import_vllm()
        self.config = config
        self.policy = policy_of(config)
        try:
            self.parts = lf.load_inference(inference_arguments(config))
            settings = _settings(config, self.parts.model_args)
            _check_family(vllm, lf.load_config(self.parts.model_args), settings)
            _check_device(config)
            register()
            self._llm: Any = vllm.LLM(**settings)
        except EngineError:
            raise
        except (ValueError, OSError, ImportError, RuntimeError, TypeError, KeyError, AssertionError) as error:
            raise EngineError(f"vLLM does not start with {config.model}: {error}") from error
        self.encoder: PromptEncoder = prompt_encoder(lf.unexpanded(self.parts))
        self._adapter = _lora_request(config)

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        """See `Engine.generate`.

        Raises:
            EngineError: a request cannot be encoded, or is longer than the model takes.
        """
        import vllm

        greedy = params.temperature == 0
        settings = {
            "n": 1 if greedy else params.n,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "repetition_penalty": params.repetition_penalty,
            "max_tokens": params.max_new_tokens,
            "stop": list(params.stop),
            "stop_token_ids": list(self.encoder.stop_ids),
            "ignore_eos": True,  # the template says what ends an answer, not generation_config.json
            "logprobs": 0 if params.logprobs else None,
            "detokenize": bool(params.stop),
        }
        sampling = [vllm.SamplingParams(**settings, seed=derived_seed(seed, request.id)) for request in requests]
        prompts = [self._prompt(request) for request in requests]
        try:
            outputs = self._llm.generate(prompts, sampling, use_tqdm=False, lora_request=self._adapter)
        except ValueError as error:
            raise EngineError(f"vLLM refuses a request: {error}") from error
        ending = Ending(frozenset(self.encoder.stop_ids), params.stop, self.encoder.decode)
        found = [
            [self.encoder.joined(request, item) for item in _completions(output, ending, params.logprobs)]
            for request, output in zip(requests, outputs, strict=True)
        ]
        return [[answers[k % len(answers)] for k in range(params.n)] for answers in found]

    def use_adapter(self, folder: Path) -> None:
        """Answers with another adapter from now on, under a new number, so that nothing cached of the old one is used.

        The engine has to have been started with an adapter of at least this rank.
        """
        from vllm.lora.request import LoRARequest

        number = self._adapter.lora_int_id + 1
        self._adapter = LoRARequest(f"policy-{number}", number, str(Path(folder).resolve()))

    def close(self) -> None:
        """Ends vLLM and frees its memory."""
        self._llm = None
        gc.collect()

    def _prompt(self, request: Request) -> dict[str, Any]:
        from ..plugin import lf

        prompt: dict[str, Any] = {"prompt_token_ids": list(self.encoder.encode(request).ids)}
        if request.images:
            prompt["multi_modal_data"] = {"image": lf.regular_images(self.parts, request.images)}
        return prompt


def _completions(output: Any, ending: Ending, logprobs: bool) -> list[Completion]:
    found = []
    for item in sorted(output.outputs, key=lambda item: item.index):
        answer = Answer(list(item.token_ids))
        if logprobs:
            answer.logprobs = [step[token].logprob for token, step in zip(answer.ids, item.logprobs, strict=True)]
        found.append(ending.completion(answer, len(output.prompt_token_ids), logprobs))
    return found


def _import_vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "vllm"
        problem = "vLLM is not installed." if missing else f"vLLM cannot be imported: {error}."
        raise EngineError(f"{problem} {INSTALL}") from error
    return vllm


def _settings(config: EngineConfig, model_args: Any) -> dict[str, Any]:
    """Arguments of `vllm.LLM`; the user's own come last."""
    if len(config.adapter) > 1:
        raise EngineError(
            "vLLM serves one adapter at a time. Merge the others (`llamafactory-cli export`) or use `hf`."
        )
    settings: dict[str, Any] = {
        "model": config.model,
        "dtype": config.dtype,
        "trust_remote_code": model_args.trust_remote_code,
        "revision": model_args.model_revision,
        "download_dir": model_args.cache_dir,
        "limit_mm_per_prompt": {"video": 0, "audio": 0},
        "disable_log_stats": True,
        "enable_lora": bool(config.adapter),
    }
    if config.adapter:
        settings["max_lora_rank"] = _rank(Path(config.adapter[0]), config.vllm)
    return {**settings, **config.vllm}


def _rank(adapter: Path, given: Mapping[str, Any]) -> int:
    """The smallest of vLLM's ranks that holds the adapter's.

    Raises:
        EngineError: the adapter is not there, or has parts that vLLM would leave out.
    """
    try:
        facts = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"Adapter {adapter} cannot be read: {error}. vLLM takes adapters from folders.") from error
    merge = "Merge it into the model (`llamafactory-cli export`) or use `hf`."
    if facts.get("peft_type") != "LORA" or facts.get("use_dora") or facts.get("modules_to_save"):
        raise EngineError(f"Adapter {adapter}: vLLM takes plain LoRA only (no DoRA, no whole modules). {merge}")
    if not given.get("enable_tower_connector_lora"):
        names = _tensor_names(adapter / "adapter_model.safetensors")
        extra = next((name for name in names if any(word in name for word in PICTURE_SIDE)), None)
        if extra is not None:
            raise EngineError(
                f"Adapter {adapter} also changes the vision tower or the projector ({extra}), where vLLM does not "
                f"apply adapters. {merge}"
            )
    ranks = [int(facts["r"]), *map(int, (facts.get("rank_pattern") or {}).values())]
    fitting = [rank for rank in RANKS if rank >= max(ranks)]
    if not fitting:
        raise EngineError(f"Adapter {adapter} has rank {max(ranks)}; vLLM takes up to {RANKS[-1]}. {merge}")
    return fitting[0]


def _tensor_names(file: Path) -> list[str]:
    """Names in a safetensors file, none if there is no such file."""
    from safetensors import safe_open

    if not file.exists():
        return []
    with safe_open(file, "pt") as tensors:
        return list(tensors.keys())


def _check_family(vllm: Any, model_config: Any, settings: Mapping[str, Any]) -> None:
    """Refuses families that vLLM has no code for, unless the user names another implementation (`model_impl`)."""
    names = list(model_config.architectures or ())
    served = vllm.ModelRegistry.get_supported_archs()
    if names and not set(names) & set(served) and "model_impl" not in settings:
        raise EngineError(
            f"vLLM {vllm.__version__} does not serve {', '.join(names)} (model type `{model_config.model_type}`). "
            "Use the engine `hf`."
        )


def _check_device(config: EngineConfig) -> None:
    from vllm.platforms import current_platform

    kind = "cpu" if current_platform.is_cpu() else "cuda"
    if config.device not in ("auto", kind):
        raise EngineError(f"engine.device is `{config.device}`, but the installed vLLM runs on `{kind}`. Use `auto`.")


def _lora_request(config: EngineConfig) -> Any:
    if not config.adapter:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("policy", 1, str(Path(config.adapter[0]).resolve()))
