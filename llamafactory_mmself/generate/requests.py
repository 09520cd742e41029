# SPDX-License-Identifier: Apache-2.0
"""Requests from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.questions import Question
from ..files import FileError, read_jsonl
from ..prompts import FOLDER, Prompt, load_prompt
from .types import Message, Request


ROLES = ("system", "user", "assistant")
#: What a prompt may show of a question in parts.
PARTS = ("question", "context", "options")


def question_requests(questions: Sequence[Question], prompt: Prompt) -> list[Request]:
    """One request a question, pictures before the prompt; the request's id is the question's."""
    return [
        Request.ask(question.id, question.placeholders + filled(prompt, question), question.images)
        for question in questions
    ]


def filled(prompt: Prompt, question: Question, **more: str) -> str:
    """A prompt about a question: the question with its options in one, or question, context and options apart.

    Args:
        prompt: shows `{question}`, and perhaps `{context}` and `{options}`.
        question: what it is about.
        more: values of further placeholders.
    """
    if "{options}" not in prompt.text:
        return prompt.fill(question=question.block, **more)
    return prompt.fill(question=question.text, context=question.context, options=question.options, **more)


def question_prompt(name: str) -> Prompt:
    """A prompt file that takes a question, or none at all.

    Args:
        name: a file, or the name of one that comes with the package, such as `r3v_cot`.

    Raises:
        PromptError: there is no such prompt, or it has other placeholders.
    """
    packaged = FOLDER / f"{name}.txt"
    path = packaged if packaged.is_file() and not Path(name).is_file() else Path(name)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "{question}"
    shown = PARTS if "{options}" in text else ("question",) if "{question}" in text else ()
    return load_prompt(path, path.name, shown)


def read_requests(path: Path) -> list[Request]:
    """Reads a JSONL file of requests.

    A line has `id`, `prompt` or `messages` (with `role` and `content`), and `images`, which are looked for from the
    file's folder. `<image>` in the text says where a picture stands. `prefix` is how the answer begins.

    Raises:
        FileError: naming file, line and field.
    """
    path = Path(path)
    return [_request(row, path, number) for number, row in enumerate(read_jsonl(path), start=1)]


def _request(row: Mapping[str, Any], path: Path, number: int) -> Request:
    def fail(name: str, what: str) -> FileError:
        return FileError(f"{path}, request {number}, field `{name}`: {what}")

    if not isinstance(row.get("id"), str | int) or row["id"] == "":
        raise fail("id", "is missing; each request needs an id of its own.")
    if ("prompt" in row) == ("messages" in row):
        raise fail("prompt", "give either `prompt`, a text, or `messages`, a list.")
    if "prompt" in row:
        if not isinstance(row["prompt"], str):
            raise fail("prompt", f"text is expected, found {row['prompt']!r}.")
        messages: tuple[Message, ...] = (Message("user", row["prompt"]),)
    else:
        messages = tuple(_message(turn, fail) for turn in row["messages"] or ())
    images = row.get("images") or []
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise fail("images", f"a list of paths is expected, found {images!r}.")
    prefix = row.get("prefix") or ""
    if not isinstance(prefix, str):
        raise fail("prefix", f"text is expected, found {prefix!r}.")
    return Request(str(row["id"]), messages, tuple(str((path.parent / image).resolve()) for image in images), prefix)


def _message(turn: Any, fail: Any) -> Message:
    if not isinstance(turn, Mapping) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
        raise fail("messages", f"`role` ({', '.join(ROLES)}) and `content` are expected, found {turn!r}.")
    return Message(turn["role"], turn["content"])
