# SPDX-License-Identifier: Apache-2.0
"""The decoding loop of the hf engine: a prompt is read once, however many answers it gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from ..tree.vision import shared_features
from .kvcache import roomy_cache
from .types import Completion, EngineError, SamplingParams


#: Share of finished rows at which the batch is packed together again.
SPARSE = 1 / 8


@dataclass(frozen=True)
class Prompts:
    """A batch of p prompts of up to t tokens, padded on the left.

    Attributes:
        inputs: `input_ids` [p, t], `attention_mask` [p, t], `position_ids` [p, t] or [3, p, t], pixels.
        shared: which distinct picture each place shows; see `tree.vision.shared_features`.
        lengths: tokens of each prompt.
    """

    inputs: dict[str, Any]
    shared: dict[str, Any] | None
    lengths: list[int]


@dataclass(frozen=True)
class Ending:
    """When an answer is over.

    Attributes:
        ids: tokens that end it.
        texts: texts that end it and are cut off.
        decode: token ids -> text.
    """

    ids: frozenset[int]
    texts: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]

    @property
    def reach(self) -> int:
        """So many tokens from the end hold a stop text that has just been completed, at a byte a token."""
        return max((len(text.encode()) for text in self.texts), default=0) + 4

    def stops(self, ids: Sequence[int]) -> bool:
        """Whether the last token ends the answer."""
        if ids[-1] in self.ids:
            return True
        if not self.texts:
            return False
        tail = self.decode(ids[-self.reach :])
        return any(text in tail for text in self.texts)

    def completion(self, row: Answer, prompt_tokens: int, logprobs: bool) -> Completion:
        """The finished answer."""
        text = self.decode(row.ids)
        cuts = [place for stop in self.texts if (place := text.find(stop)) >= 0]
        return Completion(
            text=text[: min(cuts)] if cuts else text,
            token_ids=tuple(row.ids),
            finish_reason="stop" if cuts or row.ids[-1] in self.ids else "length",
            logprobs=tuple(row.logprobs) if logprobs else None,
            prompt_tokens=prompt_tokens,
        )


@dataclass
class Answer:
    """Token ids of an answer on the way, with their log-probs."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    over: bool = False


class Picker:
    """Picks the next token of each row: repetition penalty, temperature, top-k, top-p, and the dice.

    Args:
        params: how to sample.
        generator: source of chance, on the logits' device.
        seen: [rows, vocabulary], tokens that a row has had; None without a repetition penalty.
        banned: tokens that are never picked; log-probs are of the whole distribution all the same.
    """

    def __init__(
        self, params: SamplingParams, generator: torch.Generator, seen: Tensor | None, banned: Sequence[int] = ()
    ) -> None:
        self.banned = torch.tensor(list(banned), dtype=torch.long, device=generator.device)
        self.params = params
        self.generator = generator
        self.seen = seen
        self.warpers: list[Any] = []
        if params.temperature not in (0, 1):
            self.warpers.append(TemperatureLogitsWarper(float(params.temperature)))
        if params.top_k:
            self.warpers.append(TopKLogitsWarper(params.top_k))
        if params.top_p < 1:
            self.warpers.append(TopPLogitsWarper(params.top_p))

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens [rows], and their log-probs under the model itself if they are wanted.

        Raises:
            EngineError: the logits are not numbers.
        """
        logits = logits.float()
        if bool(logits.isnan().any()):
            raise EngineError("The model's logits are not numbers. Try `dtype: bfloat16` or `float32`.")
        scores = logits if self.seen is None else self._penalised(logits, self.seen)
        if len(self.banned):
            scores = scores.index_fill(-1, self.banned, -torch.inf)
        if self.params.temperature == 0:
            tokens = scores.argmax(-1)
        else:
            for warper in self.warpers:
                scores = warper(None, scores)
            tokens = torch.multinomial(scores.softmax(-1), 1, generator=self.generator)[:, 0]
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        if not self.params.logprobs:
            return tokens, None
        return tokens, logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]

    def keep(self, rows: Tensor) -> None:
        """Forgets all but these rows."""
        if self.seen is not None:
            self.seen = self.seen[rows]

    def _penalised(self, logits: Tensor, seen: Tensor) -> Tensor:
        penalty = self.params.repetition_penalty
        return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


class Rows:
    """The model's side of a batch: cache, masks and positions of the rows that are still alive."""

    def __init__(self, model: Any, prompts: Prompts, copies: int) -> None:
        inputs = prompts.inputs
        cache = roomy_cache(model.config)
        with shared_features(model, prompts.shared):
            output = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self.model = model
        self.cache = output.past_key_values
        self.mask = inputs["attention_mask"].repeat_interleave(copies, 0)
        self.cross = inputs.get("cross_attention_mask")
        positions = inputs["position_ids"]
        self.position = positions.movedim(-2, 0).flatten(1).amax(1).repeat_interleave(copies, 0)
        self.axes = positions.dim()
        self.logits = output.logits[:, -1].repeat_interleave(copies, 0)
        if copies > 1:
            self.cache.batch_repeat_interleave(copies)
        if self.cross is not None:
            self.cross = self.cross.repeat_interleave(copies, 0)

    def step(self, tokens: Tensor) -> None:
        """Reads one token in each row."""
        self.position = self.position + 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        position = self.position[:, None]
        extra = {}
        if self.cross is not None:
            self.cross = extra["cross_attention_mask"] = torch.cat([self.cross, self.cross[:, -1:]], 1)
        output = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=position if self.axes == 2 else position.expand(3, -1, -1),
            past_key_values=self.cache,
            use_cache=True,
            **extra,
        )
        self.cache = output.past_key_values
        self.logits = output.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        """Drops all but these rows."""
        self.cache.batch_select_indices(rows)
        self.mask, self.position, self.logits = self.mask[rows], self.position[rows], self.logits[rows]
        if self.cross is not None:
            self.cross = self.cross[rows]


def sample(
    model: Any, prompts: Prompts, params: SamplingParams, seed: int, ending: Ending, banned: Sequence[int] = ()
) -> list[list[Completion]]:
    """Samples `params.n` answers to each prompt.

    Pictures are encoded and prompts are read once; the cache is then copied for the n answers. Finished answers leave
    the batch. The caller's random number generators are left alone.

    Args:
        model: the bare transformers model.
        prompts: p prompts.
        params: how to sample; greedy answers are decoded once and repeated.
        seed: decides everything; the same call gives the same answers.
        ending: when an answer is over.
        banned: tokens that are never picked.
    """
    copies = 1 if params.temperature == 0 else params.n
    with torch.inference_mode():
        answers = _decode(model, prompts, params, seed, ending, copies, banned)
    finished = [
        ending.completion(answer, prompts.lengths[row // copies], params.logprobs)
        for row, answer in enumerate(answers)
    ]
    return [[finished[place * copies + k % copies] for k in range(params.n)] for place in range(len(prompts.lengths))]


def _decode(
    model: Any,
    prompts: Prompts,
    params: SamplingParams,
    seed: int,
    ending: Ending,
    copies: int,
    banned: Sequence[int],
) -> list[Answer]:
    rows = Rows(model, prompts, copies)
    device = rows.logits.device
    generator = torch.Generator(device).manual_seed(seed)
    known = [token for token in banned if token < rows.logits.shape[-1]]  # Llama's head has no picture token
    pick = Picker(params, generator, _seen(prompts, params, rows, copies), known)
    answers = [Answer() for _ in range(len(prompts.lengths) * copies)]
    live = list(answers)
    for left in reversed(range(params.max_new_tokens)):
        tokens, logprobs = pick(rows.logits)
        values = logprobs.tolist() if logprobs is not None else [0.0] * len(live)
        for answer, token, value in zip(live, tokens.tolist(), values, strict=True):
            if not answer.over:
                answer.ids.append(token)
                answer.logprobs.append(value)
                answer.over = ending.stops(answer.ids)
        going = [place for place, answer in enumerate(live) if not answer.over]
        if not going or not left:
            break
        if len(live) - len(going) >= SPARSE * len(live):
            kept = torch.tensor(going, device=device)
            rows.keep(kept)
            pick.keep(kept)
            tokens, live = tokens[kept], [live[place] for place in going]
        rows.step(tokens)
    return answers


def _seen(prompts: Prompts, params: SamplingParams, rows: Rows, copies: int) -> Tensor | None:
    """Tokens of the prompts, padding aside."""
    if params.repetition_penalty == 1:
        return None
    ids, mask = prompts.inputs["input_ids"], prompts.inputs["attention_mask"]
    counts = torch.zeros(len(ids), rows.logits.shape[-1], dtype=torch.long, device=ids.device)
    counts.scatter_add_(1, ids, mask)
    return (counts > 0).repeat_interleave(copies, 0).to(rows.logits.device)
