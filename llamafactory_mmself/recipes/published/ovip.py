# SPDX-License-Identifier: Apache-2.0
"""The pictures that OViP's runs leave behind, as rows with a real and a negative picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...data.rows import PreferenceRow
from ..ovip import OvipRow
from ..ovip_prompts import bare_question
from .found import read_rows, text_field


def read_pictures(
    path: Path, prompts: Sequence[PreferenceRow], images: Path | None = None
) -> tuple[list[OvipRow], Counter[str]]:
    """Pairs of `data.jsonl`, joined with the prompts that they were sampled for.

    A line does not tell its real picture. It is that of the prompt with the same question; where several pictures have
    been asked the same, that of the one whose reference is the chosen response, if there is one only.

    Args:
        path: `online_data/<run>/data.jsonl`.
        prompts: of the run's `ds_path`.
        images: folder of the negative pictures, if they were moved; by default as the lines say, or `images/` beside.

    Returns:
        the rows, and what was left out -> how often.

    Raises:
        RecipeError: a line lacks a field, naming it.
    """
    rows: list[OvipRow] = []
    skipped: Counter[str] = Counter()
    by_question: dict[str, list[PreferenceRow]] = {}
    for prompt in prompts:
        by_question.setdefault(bare_question(prompt), []).append(prompt)
    for number, line in enumerate(read_rows(path), start=1):
        chosen, rejected, asked = (
            text_field(line, name, path, number) for name in ("chosen_response", "rejected_response", "prompt")
        )
        negative = _negative(text_field(line, "image", path, number), path, images)
        owner = _only(by_question.get(asked.strip(), ()), chosen)
        if negative is None:
            skipped["without a picture"] += 1
        elif owner is None:
            skipped["whose question belongs to no picture, or to several"] += 1
        else:
            known = ("image_instruction", "step", "chosen_score", "rejected_score")
            provenance = {"file": path.name, "row": number, **{name: line.get(name) for name in known}}
            rows.append(OvipRow(f"{path.stem}-{number}", owner, chosen, rejected, negative, provenance))
    return rows, skipped


def _negative(name: str, path: Path, images: Path | None) -> str | None:
    places = [images / Path(name).name] if images else [Path(name), path.parent / "images" / Path(name).name]
    return next((str(place.resolve()) for place in places if place.is_file()), None)


def _only(prompts: Sequence[PreferenceRow], chosen: str) -> PreferenceRow | None:
    for candidates in (prompts, [prompt for prompt in prompts if prompt.chosen.strip() == chosen.strip()]):
        if len({prompt.images for prompt in candidates}) == 1:
            return candidates[0]
    return None
