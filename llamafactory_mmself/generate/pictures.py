# SPDX-License-Identifier: Apache-2.0
"""Pictures in the form that chat endpoints take."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, ImageOps

from .types import EngineError


_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def data_url(path: str) -> str:
    """A picture as a data URL: the bytes of PNG and JPEG files as they are, other formats as PNG.

    Raises:
        EngineError: the file cannot be read, or is no picture.
    """
    try:
        content = Path(path).read_bytes()
        kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)
        if kind is None:
            content, kind = _to_png(content), "image/png"
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files
        raise EngineError(f"The picture {path} cannot be read: {error}. Mend or remove it.") from error
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _to_png(content: bytes) -> bytes:
    """The first frame, turned upright as its metadata say, which PNG files do not carry everywhere."""
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
        plain = upright if upright.mode in ("1", "L", "LA", "RGB", "RGBA") else upright.convert("RGB")
        out = io.BytesIO()
        plain.save(out, format="PNG")
    return out.getvalue()
