# SPDX-License-Identifier: Apache-2.0
"""A plugin of vLLM (`vllm.general_plugins`): reads LLaVA checkpoints as transformers 5.5 saves them.

transformers 5.5 saves weights of the LLaVA families under `model.language_model.model.`, a mixture of the older and
the newer names, which it reads back itself. vLLM 0.24 knows the older and the newer ones only. Models that
LLaMA-Factory has trained or merged are saved so.
"""

from __future__ import annotations


MIXED, NEWER = "model.language_model.model.", "model.language_model."


def register() -> None:
    """Adds the names; vLLM calls this in each of its processes. Doing it twice changes nothing."""
    from vllm.model_executor.models.llava import LlavaForConditionalGeneration
    from vllm.model_executor.models.llava_next import LlavaNextForConditionalGeneration
    from vllm.model_executor.models.utils import WeightsMapper

    for model in (LlavaForConditionalGeneration, LlavaNextForConditionalGeneration):
        if MIXED not in model.hf_to_vllm_mapper.orig_to_new_substr:
            model.hf_to_vllm_mapper |= WeightsMapper(orig_to_new_substr={MIXED: NEWER})
