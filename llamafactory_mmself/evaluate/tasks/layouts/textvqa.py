# SPDX-License-Identifier: Apache-2.0
"""TextVQA (Singh et al. 2019): `TextVQA_0.5.1_val.json` with ten answers a question, pictures in `train_images`.

With `ocr` the prompts are those of LLaVA's `llava_textvqa_val_v051_ocr.jsonl`, which list what an OCR system read.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, free_item, json_rows


def read(place: Place, ocr: bool = False) -> Iterator[Item]:
    """Yields the questions. Truth: `answers` (ten)."""
    prompts = _prompts(place) if ocr else {}
    for row in json_rows(place.find("TextVQA_0.5.1_val.json", "*/TextVQA_0.5.1_val.json"), key="data"):
        image, text = row.text("image_id"), row.text("question")
        path = place.picture(row, f"{image}.jpg", "train_images", "images", "", key="image_id")
        prompt = prompts.get((image, text.lower()), text)
        if ocr and prompt is text:
            raise row.fail("question", "LLaVA's file of OCR prompts has no such question; take its file for v0.5.1.")
        item = free_item(row.text("question_id"), text, [path], answers=list(row.texts("answers", least=1)))
        yield Item(item.id, prompt, item.images, item.truth)


def _prompts(place: Place) -> dict[tuple[str, str], str]:
    """LLaVA's prompts by picture and question; their last line, an instruction, is left to the task's prompt."""
    found = {}
    for row in json_rows(place.find("llava_textvqa_val_v051_ocr.jsonl")):
        lines = row.text("text").split("\n")
        if len(lines) < 2:
            raise row.fail("text", "a question, OCR tokens and an instruction are expected, one a line.")
        found[row.text("question_id"), lines[0].lower()] = "\n".join(lines[:-1])
    return found
