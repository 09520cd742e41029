# SPDX-License-Identifier: Apache-2.0
"""Bodies of a teacher's requests, and what is in the answers, for both APIs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .replies import FINAL
from .teacher_config import TeacherConfig


#: Who speaks, and what.
Turn = tuple[Literal["user", "assistant"], str]


@dataclass(frozen=True)
class ReplyForm:
    """What a structured reply looks like: a name and a JSON schema."""

    name: str
    schema: Mapping[str, Any]


def closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


SCORE = ReplyForm(
    "scores",
    closed(
        {"scores": {"type": "array", "items": closed({"index": {"type": "integer"}, "score": {"type": "number"}})}}
    ),
)
CORRECT = ReplyForm("correction", closed({FINAL: {"type": "string"}}))


def example_of(kind: str) -> str:
    """A reply of the form that is asked for."""
    if kind == "score":
        return '{"scores": [{"index": 1, "score": 0.5}, ...]}'
    return f'{{"{FINAL}": "..."}}'


def body_of(
    config: TeacherConfig, turns: Sequence[Turn], urls: Sequence[str], form: ReplyForm | None, limit: str
) -> dict[str, Any]:
    """The body of a request.

    Args:
        config: of the teacher.
        turns: of the conversation.
        urls: pictures as data URLs; they stand before the first turn.
        form: of the reply, if it is to be asked for.
        limit: the name that the server has for the most tokens of an answer.
    """
    body: dict[str, Any] = {
        "model": config.api_model,
        "temperature": config.temperature,
        limit: config.max_tokens,
    }
    if config.api == "anthropic":
        body["messages"] = _messages(turns, [_block(url) for url in urls])
        if form is not None:
            tool = {"name": form.name, "description": "Takes the reply.", "input_schema": form.schema}
            body |= {"tools": [tool], "tool_choice": {"type": "tool", "name": form.name}}
        return body
    body["messages"] = _messages(turns, [{"type": "image_url", "image_url": {"url": url}} for url in urls])
    if form is not None:
        schema = {"name": form.name, "strict": True, "schema": form.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def answer_of(api: str, answer: Mapping[str, Any]) -> tuple[str, bool, int, int]:
    """Text, whether it was cut, and tokens of prompt and answer."""
    usage = answer.get("usage") or {}
    if api == "anthropic":
        blocks = [block for block in answer["content"] if isinstance(block, Mapping)]
        inputs = [json.dumps(block.get("input")) for block in blocks if block.get("type") == "tool_use"]
        texts = inputs or [str(block.get("text") or "") for block in blocks if block.get("type") == "text"]
        cut = answer.get("stop_reason") == "max_tokens"
        return "".join(texts), cut, int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
    choice: Mapping[str, Any] = next(iter(answer["choices"]), {})
    text = (choice.get("message") or {}).get("content") or ""
    cut = choice.get("finish_reason") == "length"
    return text, cut, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def _messages(turns: Sequence[Turn], pictures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    spoken: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
    first, *rest = spoken
    if pictures:
        first = {"role": first["role"], "content": [*pictures, {"type": "text", "text": first["content"]}]}
    return [first, *rest]


def _block(url: str) -> dict[str, Any]:
    head, _, data = url.partition(",")
    kind = head.removeprefix("data:").removesuffix(";base64")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
