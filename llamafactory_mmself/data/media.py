# SPDX-License-Identifier: Apache-2.0
"""Reading the images and videos of a row and matching them with the placeholders in the prompt."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .answers import Answers
from .faults import FaultLog
from .schema import DatasetSchema, kind
from .terminal import count, quote
from .turns import Turn
from .values import read_text


IMAGE_PLACEHOLDER = os.getenv("IMAGE_PLACEHOLDER", "<image>")
VIDEO_PLACEHOLDER = os.getenv("VIDEO_PLACEHOLDER", "<video>")
AUDIO_PLACEHOLDER = os.getenv("AUDIO_PLACEHOLDER", "<audio>")
PLACEHOLDERS = (IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER, AUDIO_PLACEHOLDER)


@dataclass(frozen=True)
class Media:
    """Paths as written in the row: the real images, the images of the rejected slot, the videos."""

    images: tuple[str, ...] = ()
    rejected_images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()


def read_media(
    raw: Mapping[str, Any], schema: DatasetSchema, system: str, turns: Sequence[Turn], log: FaultLog
) -> Media:
    """Reads the media paths of a row and matches them with the placeholders of the prompt.

    With p image placeholders a row holds p images; or 2p, of which the second half are the rejected images; or p
    images and p rejected images in a column of their own. The counts are not checked if `turns` is empty, because the
    prompt was not readable then.
    """
    known_faults = len(log.faults)
    images = _read_paths(raw, "images", schema, log)
    rejected_images = _read_paths(raw, "rejected_images", schema, log)
    videos = _read_paths(raw, "videos", schema, log)
    audio = raw.get(schema.key("audios")) if "audios" in schema.columns else None
    if audio:
        fix = "Delete the column, or leave this row out."
        log.error(schema.key("audios"), "audio-not-supported", "Audio is not supported.", fix)
    if turns and len(log.faults) == known_faults:
        _check_system(system, schema, log)
        _check_videos(videos, schema, turns, log)
        images, rejected_images = _split_images(images, rejected_images, schema, turns, log)
    return Media(images, rejected_images, videos)


def check_answer_placeholders(answers: Answers, schema: DatasetSchema, log: FaultLog) -> None:
    """Logs every answer that holds a media placeholder."""
    texts = [(schema.key("chosen"), answers.chosen)]
    texts += [(schema.key("rejected"), text) for text in answers.rejected]
    for field, text in texts:
        if found := [placeholder for placeholder in PLACEHOLDERS if placeholder in text]:
            message = f"The answer holds the placeholder `{found[0]}`."
            log.error(field, "placeholder-in-answer", message, "Placeholders belong in the prompt: delete it here.")


def resolve(path: str, media_dir: Path) -> str:
    """Returns the path below `media_dir` if a file is there, else the path as given, as LLaMA-Factory does."""
    joined = os.path.join(str(media_dir), path)
    return joined if os.path.isfile(joined) else path


def check_same_images(images: Sequence[str], rejected_images: Sequence[str], field: str, log: FaultLog) -> None:
    """Warns of resolved paths that name one file in both slots."""
    for real, negative in zip(images, rejected_images, strict=False):
        if _identity(real) == _identity(negative):
            message = f"Both image slots hold `{quote(os.path.basename(real))}`."
            fix = "Fine if training makes its own negative images; otherwise give a different rejected image."
            log.warn(field, "same-image", message, fix)


def _identity(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def _read_paths(raw: Mapping[str, Any], column: str, schema: DatasetSchema, log: FaultLog) -> tuple[str, ...]:
    key = schema.key(column)
    value = raw.get(key) if column in schema.columns else None
    if value is None:
        return ()
    if not isinstance(value, (str, list, tuple)):
        log.error(key, "wrong-type", f"This is {kind(value)}.", "Write a file path or a list of file paths.")
        return ()
    paths = []
    for i, path in enumerate([value] if isinstance(value, str) else value):
        field = key if isinstance(value, str) else f"{key}[{i}]"
        if not isinstance(path, str):
            message = f"This is {kind(path)}, not a file path."
            log.error(field, "wrong-type", message, "Save the picture or video as a file and give its path.")
        elif not path.strip():
            log.error(field, "missing-field", "The file path is empty.", "Give the path of a file.")
        elif read_text(path, field, log) is not None:
            paths.append(path)
    return tuple(paths)


def _placeholders(turns: Sequence[Turn], placeholder: str) -> int:
    return sum(turn.content.count(placeholder) for turn in turns)


def _check_system(system: str, schema: DatasetSchema, log: FaultLog) -> None:
    if found := [placeholder for placeholder in PLACEHOLDERS if placeholder in system]:
        field = schema.key("system" if "system" in schema.columns else "messages")
        message = f"The system text holds the placeholder `{found[0]}`."
        log.error(field, "placeholder-in-system", message, "Put it into a user turn.")


def _check_videos(videos: Sequence[str], schema: DatasetSchema, turns: Sequence[Turn], log: FaultLog) -> None:
    wanted = _placeholders(turns, VIDEO_PLACEHOLDER)
    if wanted != len(videos):
        message = f"{_in_prompt(wanted, VIDEO_PLACEHOLDER)}, but the row gives {count(len(videos), 'video')}."
        log.error(schema.key("videos"), "placeholder-count", message, "Give one video for every placeholder.")


def _split_images(
    images: tuple[str, ...], rejected: tuple[str, ...], schema: DatasetSchema, turns: Sequence[Turn], log: FaultLog
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    key, rejected_key = schema.key("images"), schema.key("rejected_images")
    wanted = _placeholders(turns, IMAGE_PLACEHOLDER)
    have = len(images) + len(rejected)
    if have and not wanted:
        message = f"The row gives {count(have, 'image')}, but the prompt has no `{IMAGE_PLACEHOLDER}`."
        fix = f"Put `{IMAGE_PLACEHOLDER}` where each image belongs in the prompt."
        log.error(key if images else rejected_key, "no-placeholder", message, fix)
    elif rejected and not (len(images) == len(rejected) == wanted):
        message = (
            f"{_in_prompt(wanted, IMAGE_PLACEHOLDER)}, but the row gives {count(len(images), 'image')} and "
            f"{count(len(rejected), 'rejected image')}."
        )
        fix = "Give one image and one rejected image for every placeholder."
        log.error(key if len(images) != wanted else rejected_key, "placeholder-count", message, fix)
    elif not rejected and wanted and len(images) == 2 * wanted:
        return images[:wanted], images[wanted:]
    elif not rejected and len(images) != wanted:
        message = f"{_in_prompt(wanted, IMAGE_PLACEHOLDER)}, but the row gives {count(len(images), 'image')}."
        fix = "Give one image for every placeholder; or two, where the second half are the rejected images."
        if not images and "images" not in schema.columns:
            fix = "Say under `columns` which key of a row holds its images (`images`)."
        log.error(key, "placeholder-count", message, fix)
    return images, rejected


def _in_prompt(number: int, placeholder: str) -> str:
    return f"The prompt has {count(number, f'`{placeholder}` placeholder')}"
