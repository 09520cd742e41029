# SPDX-License-Identifier: Apache-2.0
"""The painter behind endpoints of the OpenAI images API, and a cache of what it has painted."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..files import FileError, write_bytes
from .chat_service import FATAL
from .client import Lost, Refused
from .service_config import PainterConfig, make_endpoints
from .service_pool import Answer, ServicePool, Unanswered
from .services import PaintFailure, PaintRequest, Picture
from .types import EngineError


LARGEST_FILE = 64 * 1024 * 1024  # bytes of a painted picture
LARGEST_SIDE = 4096  # pixels
_PNG_END = b"IEND\xaeB`\x82"
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")


class RemotePainter:
    """Paints by endpoint; see `services.Painter`.

    Servers that refuse the fields of diffusion (`seed`, steps, guidance) or `response_format` are asked without them
    from then on; different seeds of one prompt are then different pictures by the server's chance only.

    Args:
        config: where and how.
        where: the section that the settings come from.
        cache: folder whose `painted` keeps pictures by prompt, seed and policy; None keeps none.

    Raises:
        EngineError: the addresses, the key or the size cannot be used.
    """

    def __init__(self, config: PainterConfig, where: str, cache: Path | None) -> None:
        size = _SIZE.fullmatch(config.size)
        if size is None or not all(16 <= int(side) <= LARGEST_SIDE for side in size.groups()):
            raise EngineError(f"{where}: `size` has to look like 384x384, with sides of 16 to {LARGEST_SIDE} pixels.")
        self._config = config
        self._pool = ServicePool("painter", make_endpoints(config, where), config.dead_after)
        self._folder = None if cache is None else Path(cache) / "painted"
        self._plain = False  # whether the servers take nothing but the fields of OpenAI's own models
        self._counts: Counter[str] = Counter()
        look = json.dumps([config.size, config.steps, config.guidance, dict(config.extra)], sort_keys=True)
        digest = hashlib.sha256(look.encode()).hexdigest()[:8]
        self.policy = f"{config.api_model}@{','.join(self._pool.addresses)}/{digest}"

    def paint(self, requests: Sequence[PaintRequest]) -> list[Picture | PaintFailure]:
        """See `Painter.paint`.

        Raises:
            EngineError: key or address are wrong, and nothing was answered before.
            ServiceDead: nothing is answered any more.
            FileError: the cache cannot be written.
        """
        return self._pool.run([lambda request=request: self._one(request) for request in requests])  # type: ignore[misc]

    def counts(self) -> Mapping[str, int]:
        """Pictures asked for, from the cache, and not painted, and what the pool counts."""
        return {**{name: self._counts[name] for name in ("asked", "cached", "failed")}, **self._pool.counts}

    def close(self) -> None:
        """Ends connections."""
        self._pool.close()

    async def _one(self, request: PaintRequest) -> Picture | PaintFailure:
        path = self._path(request)
        if path is not None and (known := await asyncio.to_thread(_read, path)) is not None:
            self._counts["cached"] += 1
            return Picture(known)
        try:
            png = await self._painted(request)
        except Refused as refused:
            if refused.status in FATAL and not self._pool.answered:
                raise
            return self._failed(f"refused: {refused.reason}")
        except (Unanswered, Lost, _NoPicture) as error:
            return self._failed(str(error))
        self._counts["asked"] += 1
        if path is not None:
            await asyncio.to_thread(write_bytes, path, png)
        return Picture(png)

    async def _painted(self, request: PaintRequest) -> bytes:
        """One picture; after garbage it is asked for once more."""
        try:
            return await self._content(await self._asked(request))
        except (Lost, _NoPicture):
            return await self._content(await self._asked(request))

    async def _asked(self, request: PaintRequest) -> Answer:
        config = self._config
        body: dict[str, Any] = {"model": config.api_model, "prompt": request.prompt, "n": 1, "size": config.size}
        fields: dict[str, Any] = {"response_format": "b64_json", "seed": request.seed}
        if config.steps:
            fields["num_inference_steps"] = config.steps
        if config.guidance:
            fields["guidance_scale"] = config.guidance
        plain = self._plain
        if not plain:
            try:
                return await self._pool.post("/images/generations", "data", {**body, **fields, **config.extra})
            except Refused as refused:
                named = [name for name in fields if name in refused.reason]
                if refused.status not in (400, 422) or not named:
                    raise
        answer = await self._pool.post("/images/generations", "data", {**body, **config.extra})
        self._plain = True
        return answer

    async def _content(self, answer: Answer) -> bytes:
        item = next(iter(answer.body["data"]), None)
        if not isinstance(item, Mapping):
            raise _NoPicture("the answer holds no picture")
        if isinstance(item.get("b64_json"), str):
            try:
                content = base64.b64decode(item["b64_json"], validate=True)
            except ValueError as error:
                raise _NoPicture(f"the picture is no base64: {error}") from None
        elif isinstance(item.get("url"), str):
            content = await answer.connection.fetch(item["url"], LARGEST_FILE)
        else:
            raise _NoPicture("the answer holds neither `b64_json` nor `url`")
        return await asyncio.to_thread(as_png, content)

    def _path(self, request: PaintRequest) -> Path | None:
        if self._folder is None:
            return None
        key = hashlib.sha256(json.dumps([self.policy, request.prompt, request.seed]).encode()).hexdigest()
        return self._folder / key[:2] / f"{key}.png"

    def _failed(self, reason: str) -> PaintFailure:
        self._counts["failed"] += 1
        return PaintFailure(reason)


class _NoPicture(ValueError):
    """An answer without a usable picture."""


def as_png(content: bytes) -> bytes:
    """A picture in any format as an RGB PNG file without metadata.

    Raises:
        ValueError: it is none, or too large.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if max(image.size) > LARGEST_SIDE:
                raise _NoPicture(f"the picture has {image.width} x {image.height} pixels")
            out = io.BytesIO()
            image.convert("RGB").save(out, format="PNG")
    except _NoPicture:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files
        raise _NoPicture(f"the picture cannot be read: {error}") from error
    return out.getvalue()


def _read(path: Path) -> bytes | None:
    """A picture of the cache; None if it is not there, or not as it was written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"The cache {path} cannot be read: {error.strerror or error}.") from error
    return content if _is_whole(content) else None


def _is_whole(png: bytes) -> bool:
    """Whether all checksums of a PNG file are right, and nothing stands behind its end."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.verify()
    except Exception:  # Pillow's decoders raise errors of many types on damaged files
        return False
    return png.endswith(_PNG_END)
