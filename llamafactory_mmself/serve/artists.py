# SPDX-License-Identifier: Apache-2.0
"""Who paints: any text-to-image pipeline of diffusers, or the toy world's painter."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .guard import BadRequest, ServeError


if TYPE_CHECKING:
    from PIL.Image import Image

DTYPES = ("auto", "float32", "bfloat16", "float16")
LONGEST_PROMPT = 512  # tokens, where a pipeline asks how many it should read


@dataclass(frozen=True)
class PaintJob:
    """A picture to paint.

    Attributes:
        prompt: what it shows.
        seed: of its noise.
        width: in pixels.
        height: in pixels.
        steps: of the diffusion.
        guidance: its scale.
    """

    prompt: str
    seed: int
    width: int
    height: int
    steps: int
    guidance: float

    @property
    def look(self) -> tuple[int, int, int, float]:
        """Jobs that agree in it can be painted together."""
        return self.width, self.height, self.steps, self.guidance


class Artist(Protocol):
    """Paints jobs of one `look`."""

    def paint(self, jobs: Sequence[PaintJob]) -> list[Image]:
        """A picture for each job, in their order; each depends on its own prompt and seed."""
        ...


class DiffusersArtist:
    """A pipeline of diffusers.

    Args:
        model: folder or hub name.
        device: `auto`, `cpu` or `cuda`.
        dtype: one of `DTYPES`; `auto` is bfloat16 on GPUs and float32 on CPUs.

    Raises:
        ServeError: diffusers is not installed, or the model is no pipeline from text to pictures.
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        try:
            import diffusers
        except ImportError as error:
            raise ServeError(
                f"The painter needs diffusers ({error}): pip install 'llamafactory-mmself[serve]', or try "
                "`--engine toy`."
            ) from error
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if device == "cuda" else "float32"
        kind = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
        try:
            pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(model, dtype=kind)
        except (OSError, ValueError, AttributeError) as error:
            raise ServeError(f"{model} cannot be loaded as a pipeline of diffusers: {error}") from error
        self._takes = set(inspect.signature(pipeline.__call__).parameters)
        if not {"prompt", "generator"} <= self._takes:
            raise ServeError(f"{model} is a {type(pipeline).__name__}, which paints no prompts.")
        self._pipeline = pipeline.to(device)
        self._pipeline.set_progress_bar_config(disable=True)

    def paint(self, jobs: Sequence[PaintJob]) -> list[Image]:
        """See `Artist.paint`. The noise is drawn on the CPU, so that a seed means the same on every device."""
        import torch

        first = jobs[0]
        wanted = {
            "width": first.width,
            "height": first.height,
            "num_inference_steps": first.steps,
            "guidance_scale": first.guidance,
            "max_sequence_length": LONGEST_PROMPT,
        }
        generators = [torch.Generator("cpu").manual_seed(job.seed) for job in jobs]
        with torch.inference_mode():
            pictures: list[Image] = self._pipeline(
                prompt=[job.prompt for job in jobs],
                generator=generators,
                output_type="pil",
                **{name: value for name, value in wanted.items() if name in self._takes},
            ).images
        return pictures


class ToyArtist:
    """The toy world's painter: draws captions in its grammar."""

    def paint(self, jobs: Sequence[PaintJob]) -> list[Image]:
        """See `Artist.paint`; the picture is a square with the width of the job, whatever the seed.

        Raises:
            BadRequest: a prompt is no caption.
        """
        from ..toyworld.errors import ToyWorldError
        from ..toyworld.language import paint

        try:
            return [paint(job.prompt, job.width) for job in jobs]
        except ToyWorldError as error:
            raise BadRequest(str(error)) from error
