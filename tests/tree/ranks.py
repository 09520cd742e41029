# SPDX-License-Identifier: Apache-2.0
"""One rank of `test_ranks.py`: python -m torch.distributed.run --nproc_per_node 2 ranks.py FOLDER WRAPPER.

The folder holds a model, `batches-RANK.pt` with a batch in both layouts, and takes `gradients-LAYOUT.pt`.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForImageTextToText

from llamafactory_mmself.tree.packed import PackedScorer


def wrapped(model: torch.nn.Module, wrapper: str) -> torch.nn.Module:
    """The model, shared out or copied over the ranks."""
    if wrapper == "ddp":
        return DistributedDataParallel(model)
    for layer in model.get_decoder().layers:
        fully_shard(layer)
    return fully_shard(model)


def main(folder: Path, wrapper: str) -> None:
    """Writes the gradients of a sum over all ranks, for each layout."""
    dist.init_process_group("gloo")
    batches = torch.load(folder / f"batches-{dist.get_rank()}.pt", weights_only=False)
    for layout, batch in batches.items():
        model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float64)
        shared = wrapped(model, wrapper)
        table = PackedScorer()(shared, batch)
        sum(scores.logp.sum() * (place + 1) for place, scores in enumerate(table.values())).backward()
        gradients = {
            name.removeprefix("module."): item.grad.full_tensor() if wrapper == "fsdp" else item.grad
            for name, item in shared.named_parameters()
            if item.grad is not None
        }
        if dist.get_rank() == 0:
            torch.save(gradients, folder / f"gradients-{layout}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
