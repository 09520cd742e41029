# SPDX-License-Identifier: Apache-2.0
"""The `hf` engine: transformers, on a CPU or on GPUs, for every model that LLaMA-Factory loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import DynamicCache
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from ..tree.batch import DenseCollator, Family, Row
from ..tree.sample import Media
from ..tree.unwrap import bare_model
from .config import EngineConfig
from .decoding import Answer, Ending, Prompts, sample
from .encoding import EncodedPrompt, PromptEncoder, inference_arguments, prompt_encoder
from .policy import policy_of
from .types import Completion, EngineError, Request, SamplingParams


class HFEngine:
    """Samples with transformers; see `Engine`.

    A batch is padded on the left. Its distinct pictures are encoded once, each prompt is read once, and its n answers
    share that work. Families whose inputs cannot be batched so are sampled one prompt at a time with their own
    `generate`.

    Args:
        config: uses `model`, `adapter`, `template`, `dtype`, `device`, `batch_size`, `threads`, `llamafactory`.

    Raises:
        EngineError: model, adapter or template are not there, or LLaMA-Factory refuses an argument.
    """

    name = "hf"

    def __init__(self, config: EngineConfig) -> None:
        from ..plugin import lf

        self.config = config
        self.policy = policy_of(config)
        with _explained(config), _threads(config):
            self.parts = lf.load_inference(inference_arguments(config))
            self.encoder: PromptEncoder = prompt_encoder(self.parts)
            self.model = bare_model(lf.load_policy(self.parts, _device(config)))
        self.collate = _collator(self.parts, self.model)

    @classmethod
    def on(cls, model: Any, parts: Any, config: EngineConfig, policy: str) -> HFEngine:
        """An engine on a model that is loaded already, as it is in training; it should be in evaluation mode.

        Args:
            model: the transformers model, perhaps with wrappers and adapters around it.
            parts: `plugin.lf.Inference` with the tokenizer, processor and template that the model is trained with.
            config: uses `batch_size` and `threads`.
            policy: what samples say of the weights.
        """
        engine = cls.__new__(cls)
        engine.config, engine.policy, engine.parts = config, policy, parts
        engine.encoder = prompt_encoder(parts)
        engine.model = bare_model(model)
        engine.collate = _collator(parts, engine.model)
        return engine

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        """See `Engine.generate`. More requests than `batch_size` are sampled in several batches.

        Raises:
            EngineError: a request cannot be encoded, or the memory does not suffice.
        """
        size = self.config.batch_size
        found: list[list[Completion]] = []
        with _threads(self.config):
            for start in range(0, len(requests), size):
                found += self._batch(requests[start : start + size], params, seed + start)
        return found

    def close(self) -> None:
        """Frees the model's memory."""
        self.model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _batch(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        ending = Ending(frozenset(self.encoder.stop_ids), params.stop, self.encoder.decode)
        try:
            if self.collate is None:
                return [self._one(request, params, seed + place, ending) for place, request in enumerate(requests)]
            encoded = [self.encoder.encode(request) for request in requests]
            found = sample_prompts(self.model, encoded, self.collate, params, seed, ending)
            return [
                [self.encoder.joined(request, item) for item in answers]
                for request, answers in zip(requests, found, strict=True)
            ]
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"{len(requests)} prompts with {params.n} samples each do not fit into the GPU's memory. Lower "
                "`batch_size`, `max_new_tokens` or `image_max_pixels`."
            ) from error

    def _one(self, request: Request, params: SamplingParams, seed: int, ending: Ending) -> list[Completion]:
        """One prompt through the model's own `generate`."""
        from ..plugin import lf

        if request.prefix:
            raise EngineError(
                f"Request {request.id!r} begins its answer itself; this family's own `generate` cannot go on."
            )
        inputs, length = lf.generation_inputs(self.parts, self.model, request.messages, list(request.images), params)
        settings = inputs["generation_config"]
        settings.return_dict_in_generate, settings.output_logits = True, params.logprobs
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            output = self.model.generate(**inputs)
        found = []
        for place, ids in enumerate(output.sequences[:, length:].tolist()):
            answer = Answer()
            while not answer.over and len(answer.ids) < len(ids):
                answer.ids.append(ids[len(answer.ids)])
                answer.over = ending.stops(answer.ids)
            if params.logprobs:
                rows = [step[place].float().log_softmax(-1) for step in output.logits[: len(answer.ids)]]
                answer.logprobs = [float(row[token]) for row, token in zip(rows, answer.ids, strict=True)]
            found.append(ending.completion(answer, length, params.logprobs))
        return [found[k % len(found)] for k in range(params.n)]


def sample_prompts(
    model: Any,
    prompts: Sequence[EncodedPrompt],
    collate: DenseCollator,
    params: SamplingParams,
    seed: int,
    ending: Ending,
    banned: Sequence[int] = (),
) -> list[list[Completion]]:
    """Samples `params.n` answers to each prompt, in as few batches as the family allows; see `decoding.sample`."""
    found: dict[int, list[Completion]] = {}
    for number, places in enumerate(_groups(prompts, collate)):
        batch = collate_prompts([prompts[place] for place in places], collate, model)
        found |= zip(places, sample(model, batch, params, seed + number, ending, banned), strict=True)
    return [found[place] for place in range(len(prompts))]


def collate_prompts(prompts: Sequence[EncodedPrompt], collate: DenseCollator, model: Any) -> Prompts:
    """Pads prompts on the left and opens each distinct picture once; tensors go to the model's device and type."""
    rows = [Row(prompt.ids, tuple(Media("image", image) for image in prompt.images)) for prompt in prompts]
    lengths = [len(row.ids) for row in rows]
    longest = max(lengths)
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([[collate.pad_token_id] * (longest - len(row.ids)) + list(row.ids) for row in rows]),
        "attention_mask": torch.tensor([[0] * (longest - length) + [1] * length for length in lengths]),
    }
    if any(row.media for row in rows):
        inputs |= collate.media(rows, longest)
    if "cross_attention_mask" in inputs:  # built for padding on the right
        mask = inputs["cross_attention_mask"]
        inputs["cross_attention_mask"] = torch.stack(
            [F.pad(row[:length], (0, 0, 0, 0, longest - length, 0)) for row, length in zip(mask, lengths, strict=True)]
        )
    if collate.family.rope_index is not None:
        inputs["position_ids"] = collate.positions(inputs)
    else:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    shared = inputs.pop("shared", None)
    moved = {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }
    return Prompts(moved, shared, lengths)


def _groups(prompts: Sequence[EncodedPrompt], collate: DenseCollator) -> list[list[int]]:
    """Places of prompts that may share a batch.

    In models with cross-attention the tokens before the first picture attend to all of them, and to padding in place
    of pictures too. So prompts of one batch have the same number of pictures.
    """
    if collate.family.cross_inputs is None:
        return [list(range(len(prompts)))]
    groups: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(len(prompt.images), []).append(place)
    return list(groups.values())


def _collator(parts: Any, model: Any) -> DenseCollator | None:
    """How to batch prompts for a model; None if that is not known."""
    from ..plugin import lf

    layers = DynamicCache(config=model.config).layers
    if model.config.is_encoder_decoder or any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers):
        return None
    try:
        family: Family = lf.family(parts.template, parts.tokenizer, parts.processor, model)
    except ValueError:
        return None
    return DenseCollator(family, parts.tokenizer.pad_token_id)


def _device(config: EngineConfig) -> str | None:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("engine.device is `cuda`, but torch finds no GPU. Use `auto` or `cpu`.")
    return None if config.device != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def _threads(config: EngineConfig) -> Iterator[None]:
    """The number of CPU threads, for as long as the engine works."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _explained(config: EngineConfig) -> Iterator[None]:
    """Turns what LLaMA-Factory and transformers raise at loading into one line."""
    try:
        yield
    except EngineError:
        raise
    except (ValueError, OSError, ImportError) as error:
        raise EngineError(f"Model {config.model} cannot be loaded for sampling: {error}") from error
