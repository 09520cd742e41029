# SPDX-License-Identifier: Apache-2.0
"""Checking that the media files of rows exist and can be opened."""

import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .faults import Fault
from .rows import PreferenceRow
from .terminal import quote


Finding = tuple[str, str, str]

WARNING_CODES = frozenset({"animated-image"})

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
_COPY_AGAIN = "Copy or download the file again."


def check_images(rows: Iterable[PreferenceRow], workers: int = 4, progress: bool = False) -> list[Fault]:
    """Opens and decodes every distinct media file once.

    CMYK, palette, 16-bit and rotated images are fine. Of an animated image the first frame is used, which is a warning
    of the code `animated-image`.

    Args:
        rows: Rows with resolved paths.
        workers: Number of threads.
        progress: Whether to show a progress bar.

    Returns:
        A fault for every row and field (such as `images[0]`) that uses a bad file, in the order of the rows. Videos
        are only checked for being there.
    """
    uses: dict[tuple[str, bool], list[tuple[int, PreferenceRow, str]]] = {}
    for number, row in enumerate(rows):
        for column in ("images", "rejected_images", "videos"):
            for i, path in enumerate(getattr(row, column)):
                uses.setdefault((path, column == "videos"), []).append((number, row, f"{column}[{i}]"))
    found: list[tuple[int, Fault]] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=workers) as pool:
        warnings.simplefilter("ignore")  # set here and not in the threads, which share one list of filters
        findings = pool.map(lambda use: (_inspect_file if use[1] else _inspect_image)(use[0]), uses)
        for finding, users in zip(_with_bar(findings, len(uses), progress), uses.values(), strict=True):
            if finding is not None:
                found += [(number, _fault(row, field, finding)) for number, row, field in users]
    return [fault for _, fault in sorted(found, key=lambda item: item[0])]


def _fault(row: PreferenceRow, field: str, finding: Finding) -> Fault:
    code, message, fix = finding
    return Fault(row.file, row.row, field, code, message, fix, "warning" if code in WARNING_CODES else "error")


def _with_bar(items: Iterable[Finding | None], total: int, show: bool) -> Iterable[Finding | None]:
    if not show:
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, desc="Checking media", unit="file")


def _inspect_file(path: str) -> Finding | None:
    shown = quote(path, 160)
    if "://" in path or path.startswith("data:"):
        return "media-missing", f"`{shown}` is an address, not a file.", "Download it and give the path of the file."
    try:
        if os.path.isdir(path):
            return "media-missing", f"`{shown}` is a folder.", "Give the path of a file."
        if not os.path.isfile(path):
            return "media-missing", f"There is no file `{shown}`.{_similar_name(path)}", _missing_fix(path)
        if os.path.getsize(path) == 0:
            return "media-empty", f"`{shown}` has no content (0 bytes).", _COPY_AGAIN
        with open(path, "rb"):
            return None
    except (OSError, ValueError) as err:
        return "media-unreadable", f"`{shown}` cannot be read: {_reason(err)}", "Check the permissions and the disk."


def _inspect_image(path: str) -> Finding | None:
    if finding := _inspect_file(path):
        return finding
    from PIL import Image, UnidentifiedImageError

    shown = quote(path, 160)
    try:
        with Image.open(path) as image:
            image.draft(None, (1, 1))  # JPEG: reads all data, but decodes to a small picture
            image.load()
            if getattr(image, "is_animated", False) and image.format != "MPO":
                fix = "Nothing to do if the first frame is the one you want: only that one is used."
                return "animated-image", f"`{shown}` is animated.", fix
    except UnidentifiedImageError:
        return _not_an_image(path, shown)
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return "image-too-large", f"`{shown}` has more than {limit} million pixels.", "Save a smaller version of it."
    except Exception as err:  # Pillow's decoders raise errors of many types on damaged files
        if "truncated" in str(err).lower():
            return "image-truncated", f"`{shown}` is cut off.", _COPY_AGAIN
        return "image-damaged", f"`{shown}` cannot be decoded: {_reason(err)}", _COPY_AGAIN
    return None


def _not_an_image(path: str, shown: str) -> Finding:
    with open(path, "rb") as file:
        head = file.read(256)
    if head.startswith(_MAGIC):
        return "image-damaged", f"`{shown}` starts like an image but is damaged or cut off.", _COPY_AGAIN
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "not-an-image", f"`{shown}` is a web page, perhaps from a failed download.", "Download the image again."
    if head.startswith(b"version https://git-lfs"):
        return "not-an-image", f"`{shown}` is a Git LFS pointer, not the image.", "Run `git lfs pull`."
    if head.isascii() and b"\x00" not in head:
        text = quote(head.decode("ascii").strip(), 32)
        return "not-an-image", f'`{shown}` is a text file ("{text}").', "Replace it with the image."
    return "not-an-image", f"`{shown}` is in no image format that Pillow knows.", "Save it as PNG or JPEG."


def _similar_name(path: str) -> str:
    """Points out a file that differs only in its suffix or in upper and lower case."""
    wanted = Path(path)
    if not wanted.name:
        return ""
    suffixes = (wanted.suffix.lower(), wanted.suffix.upper(), ".jpg", ".jpeg", ".JPG", ".png", ".webp")
    for candidate in (wanted.with_name(stem + end) for stem in (wanted.stem, wanted.stem.lower()) for end in suffixes):
        if candidate.name != wanted.name and candidate.is_file():
            return f" There is `{quote(candidate.name)}`."
    return ""


def _missing_fix(path: str) -> str:
    if os.path.isabs(path):
        return "Correct the path."
    return "Correct the path or `media_dir`: relative paths start there or, failing that, in the working directory."


def _reason(err: Exception) -> str:
    text = (err.strerror if isinstance(err, OSError) else None) or str(err) or type(err).__name__
    return quote(text.rstrip("."), 80) + "."
