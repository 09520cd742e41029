# SPDX-License-Identifier: Apache-2.0
"""Log-probs of the scored tokens, computed inside the language-model head.

The head of a large vocabulary is where the memory of preference training goes: all rows times all positions times the
vocabulary in fp32. Only the states before scored tokens are needed, and only a few of their logits at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..losses.logps import token_logps


#: Logits held at once, in elements: 256 MiB in fp32.
LOGITS_BUDGET = 2**26


#: What stands in the place of the head: (head, states [s, hidden], targets [s], chunk) -> what is wanted, [s, ...].
Readout = Callable[[Callable[..., Tensor], Tensor, Tensor, int], Tensor]


@contextmanager
def scoring_head(
    head: nn.Module, rows: Tensor, positions: Tensor, targets: Tensor, vocab: int, readout: Readout | None = None
) -> Iterator[list[Tensor]]:
    """Makes the head return log-probs of given tokens instead of logits, while the context is open.

    The model is still called as a whole, through whatever wraps it (DDP, DeepSpeed, FSDP, autocast): calling the inner
    model first and the head afterwards would leave the ranks with different gradients.

    Args:
        head: the output embedding layer; adapters on it and hooks around it stay in force.
        rows: [s], rows of the states.
        positions: [s], positions of the states.
        targets: [s], the tokens that these states predict.
        vocab: size of the vocabulary, for the chunk length.
        readout: what is computed instead of log-probs.

    Yields:
        A list that holds what the head has returned, once it has run.
    """
    original: Callable[..., Tensor] = head.forward
    own = "forward" in vars(head)
    seen: list[Tensor] = []

    read = chunked_logps if readout is None else readout

    def forward(states: Tensor) -> Tensor:
        seen.append(read(original, states[rows, positions], targets, max(1, LOGITS_BUDGET // vocab)))
        return seen[-1]

    head.forward = forward
    try:
        yield seen
    finally:
        if own:
            head.forward = original
        else:
            del head.forward


def chunked_logps(head: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """Log-probs of targets, [s], with at most `chunk` rows of logits alive; they are computed again in backward.

    Args:
        head: [s, hidden] -> [s, vocab].
        states: [s, hidden].
        targets: [s].
        chunk: rows at a time.
    """

    def logps(part: Tensor, wanted: Tensor) -> Tensor:
        return token_logps(head(part), wanted)

    return in_chunks(logps, states, targets, chunk)


def in_chunks(compute: Callable[[Tensor, Tensor], Tensor], states: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """A function of states and targets, on at most `chunk` rows at a time, computed again in backward.

    Args:
        compute: [s, hidden] and [s] -> [s, ...].
        states: [s, hidden].
        targets: [s].
        chunk: rows at a time.
    """
    if len(states) <= chunk:
        return compute(states, targets)

    pieces = zip(states.split(chunk), targets.split(chunk), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([compute(part, wanted) for part, wanted in pieces])
    return torch.cat(
        [checkpoint(compute, part, wanted, use_reentrant=False, preserve_rng_state=False) for part, wanted in pieces]
    )
