# SPDX-License-Identifier: Apache-2.0
"""Judge, describer and witness of painted pictures behind chat endpoints.

Each asks with a prompt file and reads what comes back; JSON by schema is asked for until a server refuses it. Answers
are kept by all that the model was shown, so that nothing is asked twice, nor again after a kill.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..data.questions import IMAGE
from ..files import digest
from ..prompts import Prompt, load_prompt
from .cache import AnswerCache
from .client import LIMIT, NEW_LIMIT, Refused, wants_new_limit
from .forms import YesNo
from .pictures import data_url
from .score_text import json_value, parse_description, parse_score
from .seeds import derived_seed
from .service_config import ChatConfig, JudgeConfig, make_endpoints
from .service_pool import ServicePool, Unanswered
from .services import HIGHEST, LOWEST, CheckItem, DescribeItem, ScoreItem
from .teacher_requests import ReplyForm, closed
from .types import EngineError


Value = TypeVar("Value")

FATAL = frozenset({401, 403, 404})  # before the first answer: a wrong key or address
AGAIN_TEMPERATURE = 0.7  # of further tries

#: Reads a value from a text; the flag says whether it was cut.
Read = Callable[[str, bool], Value | None]


@dataclass(frozen=True)
class Ask:
    """Something to ask a chat model about.

    Attributes:
        values: of the prompt's placeholders.
        images: pictures that stand before the prompt: paths, or the content of PNG files.
    """

    values: Mapping[str, str]
    images: tuple[str | bytes, ...] = ()


@dataclass(frozen=True)
class _Shown:
    """What a model is shown, and a digest of it."""

    text: str
    images: tuple[str | bytes, ...]
    key: str


class ChatService(Generic[Value]):
    """Asks chat endpoints and reads values from their answers.

    Args:
        name: what messages call it.
        config: where and how.
        where: the section that the settings come from.
        prompt: the prompt.
        form: a structured answer.
        read: reads a value from an answer.
        cache: the file of answers; None keeps them in memory.
    """

    def __init__(
        self,
        name: str,
        config: ChatConfig,
        where: str,
        prompt: Prompt,
        form: ReplyForm | None,
        read: Read[Value],
        cache: Path | None,
    ) -> None:
        self._pool = ServicePool(name, make_endpoints(config, where), config.dead_after)
        self._config = config
        self._prompt = prompt
        self._form = form if config.structured else None
        self._limit_name = LIMIT
        self._read = read
        self._cache = AnswerCache(cache)
        self._counts: Counter[str] = Counter()
        sampling = [config.temperature, config.top_p, config.max_tokens, config.tries, config.structured]
        self.policy = f"{config.api_model}@{','.join(self._pool.addresses)}/{prompt.digest}/{_digest(sampling)[:8]}"

    def ask(self, items: Sequence[Ask]) -> list[Value | None]:
        """A value for each item, None where none can be read or had; equal items are asked about once.

        Raises:
            EngineError: key or address are wrong, and nothing was answered before.
            ServiceDead: nothing is answered any more.
        """
        shown = self._shown(items)
        first = {item.key: item for item in shown}
        found = self._pool.run([lambda item=item: self._one(item) for item in first.values()])  # type: ignore[misc]
        values = dict(zip(first, found, strict=True))
        return [values[item.key] for item in shown]

    def counts(self) -> dict[str, int]:
        """Items asked about, answers from the cache, unparsed and failed items, and what the pool counts."""
        names = ("asked", "cached", "unparsed", "failed")
        return {**{name: self._counts[name] for name in names}, **self._pool.counts}

    def close(self) -> None:
        """Ends connections."""
        self._pool.close()

    def _shown(self, items: Sequence[Ask]) -> list[_Shown]:
        digests: dict[str | bytes, str] = {}
        found = []
        for item in items:
            filled = self._prompt.fill(**{name: text.replace(IMAGE, "[image]") for name, text in item.values.items()})
            digests |= {image: _image_digest(image) for image in item.images if image not in digests}
            key = _digest([self.policy, filled, [digests[image] for image in item.images]])
            found.append(_Shown(filled, item.images, key))
        return found

    async def _one(self, item: _Shown) -> Value | None:
        for number in range(self._config.tries):
            try:
                text, reason = await self._answer(item, number)
            except Unanswered:
                self._counts["failed"] += 1
                return None
            except Refused as refused:
                if refused.status in FATAL and not self._pool.answered:
                    raise
                self._counts["failed"] += 1
                return None
            value = self._read(text, reason == "length")
            if value is not None:
                return value
        self._counts["unparsed"] += 1
        return None

    async def _answer(self, item: _Shown, number: int) -> tuple[str, str]:
        """Text and finish reason of the answer of a try, from the cache if it is there."""
        key = f"{item.key}-{number}"
        known = self._cache.get(key)
        if known is not None:
            self._counts["cached"] += 1
            return known
        body = await asyncio.to_thread(self._body, item, number)
        choice = await self._choice(body, self._form)
        message = choice.get("message")
        content = message.get("content") if isinstance(message, Mapping) else None
        answer = content if isinstance(content, str) else "", str(choice.get("finish_reason") or "stop")
        self._counts["asked"] += 1
        if answer[0]:  # nothing at all may be a server's mishap
            await asyncio.to_thread(self._cache.add, {key: answer})
        return answer

    def _body(self, item: _Shown, number: int) -> dict[str, Any]:
        config = self._config
        urls = [_url(image) for image in item.images]
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        content: Any = [*parts, {"type": "text", "text": item.text}] if parts else item.text
        return {
            "model": config.api_model,
            "messages": [{"role": "user", "content": content}],
            "temperature": config.temperature if not number else max(config.temperature, AGAIN_TEMPERATURE),
            "top_p": config.top_p,
            "seed": derived_seed(number, item.key),
        }

    async def _choice(self, body: Mapping[str, Any], form: ReplyForm | None) -> Mapping[str, Any]:
        """The first choice of an answer; asks again in another way where a server does not know a field of ours."""
        limit = self._limit_name  # another request may change it meanwhile
        try:
            return await self._posted(body, form, limit)
        except Refused as refused:
            if refused.status not in (400, 422):
                raise
            if wants_new_limit(refused, limit):
                self._limit_name = NEW_LIMIT
                return await self._choice(body, form)
            if form is None:
                raise
        choice = await self._choice(body, None)
        self._form = None  # it was the form that was refused
        return choice

    async def _posted(self, body: Mapping[str, Any], form: ReplyForm | None, limit: str) -> Mapping[str, Any]:
        sent = {**body, limit: self._config.max_tokens}
        if form is not None:
            schema = {"name": form.name, "strict": True, "schema": form.schema}
            sent["response_format"] = {"type": "json_schema", "json_schema": schema}
        answer = await self._pool.post("/chat/completions", "choices", sent)
        choice = next(iter(answer.body["choices"]), None)
        return choice if isinstance(choice, Mapping) else {}


class ChatScorer:
    """Scores responses; see `services.ResponseScorer`.

    Args:
        config: where and how.
        where: the section that the settings come from.
        cache: folder of the file of answers; None keeps them in memory.

    Raises:
        EngineError: the addresses or the key cannot be used.
        PromptError: the prompt file cannot be used.
    """

    def __init__(self, config: JudgeConfig, where: str, cache: Path | None) -> None:
        names = ("picture", "question", "reference", "response", "reply")
        schema = closed({"score": {"type": "number", "minimum": LOWEST, "maximum": HIGHEST}})
        self._show = config.show_picture
        self._reply = _reply(config, '{"score": <number from 0 to 10>}', "Score: [x]")
        self._chat: ChatService[float] = ChatService(
            "judge",
            config,
            where,
            load_prompt(config.prompt, "ovip_score.txt", names),
            ReplyForm("score", schema),
            lambda text, cut: _score(text, cut, config),
            cache and cache / "scores.jsonl",
        )
        self.policy = self._chat.policy + (f"/{config.quirks}" if config.quirks != "fixed" else "")

    def score(self, items: Sequence[ScoreItem]) -> list[float | None]:
        """See `ResponseScorer.score`."""
        return self._chat.ask([Ask(self._values(item), item.images if self._show else ()) for item in items])

    def counts(self) -> Mapping[str, int]:
        """See `ResponseScorer.counts`."""
        return self._chat.counts()

    def close(self) -> None:
        """Ends connections."""
        self._chat.close()

    def _values(self, item: ScoreItem) -> dict[str, str]:
        return {
            "picture": " It is shown." if self._show and item.images else " You do not see it.",
            "question": item.question,
            "reference": item.reference,
            "response": item.response,
            "reply": self._reply,
        }


class ChatDescriber:
    """Describes negative pictures; see `services.Describer`. Arguments and errors as for `ChatScorer`."""

    def __init__(self, config: ChatConfig, where: str, cache: Path | None) -> None:
        schema = closed({"description": {"type": "string"}})
        self._reply = _reply(config, '{"description": "..."}', "Description: ...")
        self._chat: ChatService[str] = ChatService(
            "describer",
            config,
            where,
            load_prompt(config.prompt, "ovip_describe.txt", ("question", "chosen", "rejected", "reply")),
            ReplyForm("description", schema),
            lambda text, cut: parse_description(text, cut=cut),
            cache and cache / "descriptions.jsonl",
        )
        self.policy = self._chat.policy

    def describe(self, items: Sequence[DescribeItem]) -> list[str | None]:
        """See `Describer.describe`."""
        asked = [
            Ask({"question": item.question, "chosen": item.chosen, "rejected": item.rejected, "reply": self._reply})
            for item in items
        ]
        return self._chat.ask(asked)

    def counts(self) -> Mapping[str, int]:
        """See `Describer.counts`."""
        return self._chat.counts()

    def close(self) -> None:
        """Ends connections."""
        self._chat.close()


class ChatClaims:
    """Says whether painted pictures show what rejected responses claim. Arguments and errors as for `ChatScorer`."""

    def __init__(self, config: ChatConfig, where: str, cache: Path | None) -> None:
        self._chat: ChatService[bool] = ChatService(
            "witness",
            config,
            where,
            load_prompt(config.prompt, "ovip_claim.txt", ("question", "answer")),
            None,
            lambda text, cut: None if cut else YesNo().parse(text),
            cache and cache / "claims.jsonl",
        )
        self.policy = self._chat.policy

    def seen(self, items: Sequence[CheckItem]) -> list[bool | None]:
        """Whether each picture shows what its pair's rejected response says; None where nobody knows."""
        asked = [
            Ask({"question": item.pair.question, "answer": item.pair.rejected}, (item.picture.png,)) for item in items
        ]
        return self._chat.ask(asked)

    def counts(self) -> Mapping[str, int]:
        """See `ChatService.counts`."""
        return self._chat.counts()

    def close(self) -> None:
        """Ends connections."""
        self._chat.close()


def _score(text: str, cut: bool, config: JudgeConfig) -> float | None:
    """The end of a cut answer is not known, 1 may have become 10, unless it is JSON that is whole."""
    if cut and config.quirks == "fixed" and json_value(text, "score") is None:
        return None
    return parse_score(text, quirks=config.quirks)


def _reply(config: ChatConfig, json_form: str, line: str) -> str:
    if config.structured:
        return f"Reply with JSON of the form {json_form}, or with one line of the form: {line}"
    return f"Reply with one line of the form: {line}"


def _url(image: str | bytes) -> str:
    if isinstance(image, bytes):
        return f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
    return data_url(image)


def _image_digest(image: str | bytes) -> str:
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    try:
        return digest(Path(image))
    except OSError as error:
        raise EngineError(f"The picture {image} cannot be read: {error.strerror or error}.") from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
