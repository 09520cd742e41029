# SPDX-License-Identifier: Apache-2.0
"""Training the multimodal projector: beside an adapter, and with a learning rate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ...plugin import lf
from ..base import RunArguments, SettingError


logger = lf.get_logger(__name__)

_ADAPTERS = ("lora", "oft")


def save_projector_with_adapter(run: RunArguments) -> None:
    """Makes `freeze_multi_modal_projector: false` hold beside an adapter.

    LLaMA-Factory leaves the projector out of `lora_target: all`, and an adapter freezes all that it does not name. So
    the projector is added to `additional_target`: it is trained whole and saved with the adapter.

    Raises:
        SettingError: where that would undo another default of LLaMA-Factory.
    """
    finetuning = run.finetuning
    if not run.training.do_train or finetuning.finetuning_type not in _ADAPTERS:
        return
    if finetuning.freeze_multi_modal_projector or (
        run.model.adapter_name_or_path and not finetuning.create_new_adapter
    ):
        return
    named = finetuning.additional_target or []
    missing = [key for key in lf.projector_keys(lf.load_config(run.model).model_type) if key not in named]
    if not missing:
        return
    if run.model.resize_vocab and finetuning.additional_target is None:
        raise SettingError(
            "freeze_multi_modal_projector: false with a resized vocabulary: name everything to train beside the "
            f"adapter yourself, `additional_target: embed_tokens,lm_head,{','.join(missing)}`."
        )
    finetuning.additional_target = [*named, *missing]
    logger.info_rank0(f"The projector is trained whole beside the adapter: additional_target {', '.join(missing)}.")


def projector_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Trainable parameters of the projector, wrapped or not."""
    keys = lf.projector_keys(model.config.model_type)
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and any(key in name for key in keys)
    ]


def check_projector(model: PreTrainedModel, run: RunArguments) -> None:
    """Refuses a run whose projector was to be trained and is not.

    Raises:
        SettingError: with the way out.
    """
    wanted = run.stage.projector_learning_rate is not None
    beside = run.finetuning.finetuning_type in _ADAPTERS and not run.finetuning.freeze_multi_modal_projector
    composite = bool(lf.projector_keys(model.config.model_type))
    if not run.training.do_train or not (wanted or (beside and composite)) or projector_parameters(model):
        return
    if not composite:
        raise SettingError(
            f"projector_learning_rate is set, and models of type `{model.config.model_type}` have no projector that "
            "LLaMA-Factory knows: remove it."
        )
    adapters = run.model.adapter_name_or_path
    reason = f"adapter {adapters[-1]}, which this run continues, was made without it" if adapters else "it is frozen"
    raise SettingError(
        f"The projector cannot be trained: {reason}. Set `freeze_multi_modal_projector: false`"
        f"{' and `create_new_adapter: true`' if adapters else ''}, or leave the projector frozen and remove "
        "`projector_learning_rate`."
    )


def split_projector_groups(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], learning_rate: float
) -> None:
    """Moves parameters into groups with their own learning rate; all other options stay those of their old group."""
    chosen = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        moved = [parameter for parameter in group["params"] if id(parameter) in chosen]
        if not moved:
            continue
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in chosen]
        options: dict[str, Any] = {name: value for name, value in group.items() if name != "params"}
        optimizer.add_param_group({**options, "params": moved, "lr": learning_rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
