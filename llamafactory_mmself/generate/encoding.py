# SPDX-License-Identifier: Apache-2.0
"""From a request to token ids, with LLaMA-Factory's template: the same ids that training rows have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ..data.encode import NOT_ENCODABLE, RowEncoder
from ..data.questions import IMAGE
from ..data.rows import PreferenceRow
from ..data.turns import Turn
from .config import EngineConfig
from .types import Completion, EngineError, Request


PATCH = 28 * 28  # pixels that become one token, about
LETTERS = 4  # characters that become one token, about


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model reads it.

    Attributes:
        ids: token ids, image placeholders expanded.
        images: paths of the pictures behind them, in order.
    """

    ids: tuple[int, ...]
    images: tuple[str, ...]


@dataclass(frozen=True)
class PromptEncoder:
    """Encodes requests.

    Attributes:
        rows: tokenises with the template.
        stop_ids: tokens that end an answer.
    """

    rows: RowEncoder
    stop_ids: tuple[int, ...]

    def encode(self, request: Request) -> EncodedPrompt:
        """Encodes one request, the given beginning of its answer included.

        Raises:
            EngineError: naming the request, if the template cannot take it.
        """
        try:
            ids = self.rows.prompt(_as_row(request), request.images)
        except NOT_ENCODABLE as error:
            raise EngineError(f"Request {request.id!r} cannot be encoded: {error}") from error
        return EncodedPrompt((*ids, *self._prefix_ids(request.prefix)), request.images)

    def joined(self, request: Request, completion: Completion) -> Completion:
        """A completion whose text goes on from the request's prefix.

        Some tokenizers drop the blank that a text begins with; between prefix and completion it belongs there.
        """
        if not request.prefix:
            return completion
        head = self._prefix_ids(request.prefix)
        alone, whole = self.decode(completion.token_ids), self.decode([*head, *completion.token_ids])
        before = self.decode(head)
        if not (whole.startswith(before) and whole.endswith(alone)):
            return completion
        return replace(completion, text=whole[len(before) : len(whole) - len(alone)] + completion.text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without special tokens."""
        text: str = self.rows.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _prefix_ids(self, prefix: str) -> list[int]:
        """The ids that training gives a prefix."""
        return list(self.rows.tokenizer.encode(prefix, add_special_tokens=False)) if prefix else []


def load_encoder(config: EngineConfig) -> PromptEncoder:
    """Loads tokenizer, processor and template, without the model.

    Raises:
        EngineError: model or template are not there, or LLaMA-Factory refuses an argument.
    """
    from ..plugin import lf

    return prompt_encoder(lf.load_inference(inference_arguments(config)))


def prompt_encoder(parts: Any) -> PromptEncoder:
    """An encoder from what `plugin.lf.load_inference` returns."""
    from ..plugin import lf

    rows = lf.row_encoder(parts.template, parts.tokenizer, parts.processor, parts.cutoff_len)
    return PromptEncoder(rows, tuple(sorted(parts.template.get_stop_token_ids(parts.tokenizer))))


def inference_arguments(config: EngineConfig) -> dict[str, Any]:
    """The arguments of `llamafactory-cli chat` that mean the same model.

    Raises:
        EngineError: the engine's settings name no model or no template.
    """
    config.check()
    arguments = {"model_name_or_path": config.model, "template": config.template, "infer_dtype": config.dtype}
    if config.adapter:
        arguments |= {"adapter_name_or_path": ",".join(config.adapter), "finetuning_type": "lora"}
    return {**arguments, **config.llamafactory}


def _as_row(request: Request) -> PreferenceRow:
    system = "".join(message.content for message in request.messages if message.role == "system")
    turns = tuple(Turn(turn.role, turn.content) for turn in request.messages if turn.role != "system")
    return PreferenceRow(request.id, "", 0, system, "", turns, "", ("",), request.images)


@dataclass(frozen=True)
class ImageFact:
    """What is known about a picture file: SHA-256 of its content, width and height in pixels."""

    digest: str
    width: int
    height: int


def inspect_images(requests: Iterable[Request]) -> dict[str, ImageFact]:
    """Opens every picture once, all of it, so that a broken one is found before hours of sampling.

    Raises:
        EngineError: naming request and file.
    """
    users: dict[str, str] = {}
    for request in requests:
        for image in request.images:
            users.setdefault(image, request.id)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(users, pool.map(lambda item: _inspect(*item), users.items()), strict=True))


def _inspect(path: str, request: str) -> ImageFact:
    try:
        content = Path(path).read_bytes()
        with Image.open(BytesIO(content)) as image:
            image.load()
            return ImageFact(hashlib.sha256(content).hexdigest(), *image.size)
    except FileNotFoundError as error:
        raise EngineError(f"Request {request!r}: there is no image {path}.") from error
    except UnidentifiedImageError as error:
        raise EngineError(
            f"Request {request!r}: image {path} cannot be read (it is no image). Repair or replace it."
        ) from error
    except NOT_ENCODABLE as error:
        raise EngineError(
            f"Request {request!r}: image {path} cannot be read ({error}). Repair or replace it."
        ) from error


def check_requests(requests: Sequence[Request]) -> None:
    """Sees that ids are unique and that each request has a picture for each placeholder.

    Raises:
        EngineError: naming the request.
    """
    if not requests:
        raise EngineError("There is nothing to sample: the job has no requests.")
    seen: set[str] = set()
    for request in requests:
        if request.id in seen:
            raise EngineError(f"Request {request.id!r} comes twice; each request of a job needs an id of its own.")
        seen.add(request.id)
        if not request.messages or request.messages[-1].role != "user":
            raise EngineError(f"Request {request.id!r}: the last message has to be a user's.")
        roles = [message.role for message in request.messages]
        turns = roles[roles[0] == "system" :]
        if turns != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
            raise EngineError(f"Request {request.id!r}: user and assistant have to take turns, found {roles}.")
        places = sum(message.content.count(IMAGE) for message in request.messages)
        if places != len(request.images):
            raise EngineError(
                f"Request {request.id!r} has {len(request.images)} images and {places} {IMAGE} placeholders."
            )


def estimated_lengths(
    requests: Sequence[Request], images: Mapping[str, ImageFact], pixels: tuple[int, int]
) -> list[int]:
    """Lengths of prompts in tokens, guessed from characters and pixels: enough to batch like with like.

    They depend on nothing but the requests and the limits, so that batches are the same for every model and engine.

    Args:
        requests: the prompts.
        images: path -> what is known about the picture.
        pixels: the fewest and the most that a picture has when the model sees it.
    """
    least, most = pixels
    return [
        (sum(len(message.content) for message in request.messages) + len(request.prefix)) // LETTERS
        + sum(min(max(images[image].width * images[image].height, least), most) // PATCH for image in request.images)
        for request in requests
    ]
