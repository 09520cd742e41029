# SPDX-License-Identifier: Apache-2.0
"""The painter's server: `POST /v1/images/generations` of the OpenAI API.

Beside the API's own fields a request may have `seed`, `num_inference_steps` and `guidance_scale`. Pictures come as
base64 in the answer; none is written anywhere.
"""

from __future__ import annotations

import base64
import io
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from .artists import Artist, PaintJob
from .batching import Batcher
from .guard import BadRequest, Limits, check_model, make_app


_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
_STEP = 8  # pixels that sides are a multiple of


@dataclass(frozen=True)
class PainterOptions:
    """What the server paints where a request does not say, and what it allows.

    Attributes:
        name: of the model, as clients call it.
        size: width and height in pixels.
        steps: of the diffusion.
        guidance: its scale.
        batch_size: pictures painted together.
        window: seconds to wait for more requests.
        largest: pixels of a side.
        most_steps: of a request.
        limits: of requests.
    """

    name: str
    size: tuple[int, int] = (384, 384)
    steps: int = 40
    guidance: float = 7.5
    batch_size: int = 4
    window: float = 0.05
    largest: int = 1024
    most_steps: int = 200
    limits: Limits = field(default_factory=lambda: Limits(body=256 * 1024, prompt=4000, n=4, queue=64))


class PaintBody(BaseModel):
    """The fields of a request."""

    prompt: str = Field(min_length=1)
    model: str | None = None
    n: int = Field(1, ge=1)
    size: str | None = None
    response_format: Literal["b64_json"] = "b64_json"
    seed: int | None = Field(None, ge=0, lt=2**63)
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=100)


def painter_app(artist: Artist, options: PainterOptions, key: str | None = None) -> FastAPI:
    """The application.

    Args:
        artist: paints.
        options: defaults and limits.
        key: the API key that requests have to bring; None asks for none.
    """
    batcher: Batcher[PaintJob, bytes] = Batcher(
        lambda jobs: [_png(picture) for picture in artist.paint(jobs)],
        alike=lambda job: job.look,
        most=options.batch_size,
        window=options.window,
        queue=options.limits.queue,
    )
    app = make_app(
        "mmself painter",
        [options.name],
        options.limits,
        key,
        lambda: {"waiting": batcher.open, "painted": batcher.done, "batches": batcher.batches},
        batcher.close,
    )

    @app.post("/v1/images/generations")
    async def paint(body: PaintBody) -> dict[str, Any]:
        pictures = await batcher.submit(_jobs(body, options))
        data = [{"b64_json": base64.b64encode(picture).decode("ascii")} for picture in pictures]
        return {"created": int(time.time()), "data": data}

    return app


def read_size(text: str) -> tuple[int, int]:
    """Width and height of a text such as `384x384`, or `384` for a square.

    Raises:
        BadRequest: it is none.
    """
    match = _SIZE.fullmatch(text if "x" in text else f"{text}x{text}")
    if match is None:
        raise BadRequest(f"`size` has to look like 384x384, not {text!r}.")
    return int(match[1]), int(match[2])


def _jobs(body: PaintBody, options: PainterOptions) -> Sequence[PaintJob]:
    limits = options.limits
    check_model(body.model, options.name)
    if len(body.prompt) > limits.prompt:
        raise BadRequest(f"The prompt has {len(body.prompt)} characters, more than {limits.prompt}.")
    if body.n > limits.n:
        raise BadRequest(f"`n` is {body.n}, more than {limits.n}.")
    width, height = options.size if body.size is None else read_size(body.size)
    if not all(16 <= side <= options.largest and side % _STEP == 0 for side in (width, height)):
        raise BadRequest(f"`size`: sides are multiples of {_STEP} from 16 to {options.largest} pixels.")
    steps = options.steps if body.num_inference_steps is None else body.num_inference_steps
    if steps > options.most_steps:
        raise BadRequest(f"`num_inference_steps` is {steps}, more than {options.most_steps}.")
    guidance = options.guidance if body.guidance_scale is None else body.guidance_scale
    seed = secrets.randbelow(2**31) if body.seed is None else body.seed
    return [PaintJob(body.prompt, seed + number, width, height, steps, guidance) for number in range(body.n)]


def _png(picture: Any) -> bytes:
    out = io.BytesIO()
    picture.convert("RGB").save(out, format="PNG")
    return out.getvalue()
