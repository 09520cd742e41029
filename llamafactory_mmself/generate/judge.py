# SPDX-License-Identifier: Apache-2.0
"""Judges: a model that says yes or no, gives a score, or chooses.

```python
judge = Judge(build_engine(config), judge_prompt("score"), Score(0, 10), tries=3, cache=path)
for judgement in judge.ask([JudgeItem("17", {"question": ..., "reference": ..., "answer": ...}, ("17.png",))]):
    judgement.value  # a number, or None if none of the judge's answers can be read
```
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from ..data.questions import IMAGE
from ..files import digest
from ..prompts import Prompt, load_prompt
from .cache import AnswerCache
from .forms import Form
from .types import Engine, EngineError, Request, SamplingParams


GREEDY = SamplingParams(temperature=0.0, max_new_tokens=512)
AGAIN_TEMPERATURE = 0.7  # of further tries after a greedy one, which would only repeat itself

PLACEHOLDERS = {
    "yes_no": ("question", "reference", "answer"),
    "score": ("question", "reference", "answer", "low", "high"),
    "choice": ("question", "candidates", "options"),
}


class JudgeError(ValueError):
    """A judge that was set up wrongly, with the reason and what to do."""


@dataclass(frozen=True)
class JudgeItem:
    """Something to be judged.

    Attributes:
        id: for error messages.
        values: texts for the prompt's placeholders.
        images: paths of pictures; they stand before the prompt.
    """

    id: str
    values: Mapping[str, str]
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """What a judge said.

    Attributes:
        value: a bool (`YesNo`), a number (`Score`) or an option (`Choice`); None if no try gave a clear answer.
        text: the answer that the value was read from, else the last one.
        tries: how many answers were looked at.
    """

    value: Any | None
    text: str
    tries: int = 1

    @property
    def parsed(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


@dataclass(frozen=True)
class JudgeStats:
    """Counts since a judge was made.

    Attributes:
        judged: items that were asked about.
        unparsed: those of them without a value.
        asked: answers that the engine was asked for, further tries included.
        cached: answers that were known already.
        damaged: broken lines of the cache file that were passed over.
    """

    judged: int = 0
    unparsed: int = 0
    asked: int = 0
    cached: int = 0
    damaged: int = 0


class Judge:
    """Judges items with an engine; answers are kept, so that nothing is asked twice.

    An answer counts for the same engine policy, prompt, filled-in text, pictures, sampling parameters and seed only.
    Answers are added to the cache batch by batch: after a kill, or an endpoint that went away, the same call goes on
    where it stopped.

    Args:
        engine: who answers.
        prompt: the prompt; its placeholders are filled by the form and by each item.
        form: the form of the answer, and with it how it is read.
        params: how to sample; `n` has to be 1.
        seed: of the first try.
        tries: answers to ask for, each with another seed, until one can be read. Further tries after a greedy one are
            sampled with temperature `AGAIN_TEMPERATURE`.
        cache: a JSONL file to keep answers in; without it they are kept in memory.
        batch_size: requests handed to the engine at a time.
        progress: whether to show a bar.

    Raises:
        JudgeError: an argument has no sense.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Prompt,
        form: Form,
        *,
        params: SamplingParams = GREEDY,
        seed: int = 0,
        tries: int = 1,
        cache: Path | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> None:
        if params.n != 1:
            raise JudgeError(f"A judge looks at one answer at a time: n has to be 1, not {params.n}. See `tries`.")
        if tries < 1 or batch_size < 1:
            raise JudgeError(f"tries ({tries}) and batch_size ({batch_size}) have to be 1 or more.")
        self._engine = engine
        self._prompt = prompt
        self._form = form
        self._params = params
        self._seed = seed
        self._tries = tries
        self._cache = AnswerCache(cache)
        self._batch_size = batch_size
        self._progress = progress
        self.stats = JudgeStats(damaged=self._cache.damaged)

    def ask(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """Judges items, in their order.

        Raises:
            JudgeError: the prompt has a placeholder without a value, or a picture cannot be read.
            EngineError: the engine cannot answer; what it answered before is in the cache.
            FileError: the cache cannot be written.
        """
        requests = list(self._requests(items))
        judgements: dict[int, Judgement] = {}
        for number in range(self._tries):
            params, seed = self._try(number)
            open_places = [place for place in range(len(items)) if place not in judgements]
            keys = {place: self._key(requests[place].id, params, seed) for place in open_places}
            self._answer({keys[place]: requests[place] for place in open_places}, params, seed)
            for place, key in keys.items():
                judgement = self._read(key, number + 1)
                if judgement.parsed or number + 1 == self._tries:
                    judgements[place] = judgement
        unparsed = sum(not judgement.parsed for judgement in judgements.values())
        self._count(judged=len(items), unparsed=unparsed)
        return [judgements[place] for place in range(len(items))]

    def _requests(self, items: Sequence[JudgeItem]) -> Iterator[Request]:
        """The request for each item; its id is a digest of all that the judge is shown."""
        digests: dict[str, str] = {}
        for item in items:
            values = {**self._form.values, **item.values}
            try:
                # A text that happens to hold a placeholder must not ask for a picture.
                filled = self._prompt.fill(**{name: text.replace(IMAGE, "[image]") for name, text in values.items()})
                digests |= {image: digest(Path(image)) for image in item.images if image not in digests}
            except KeyError as error:
                raise JudgeError(
                    f"Item {item.id} has no value for {{{error.args[0]}}}, which {self._prompt.file} asks for."
                ) from error
            except OSError as error:
                raise JudgeError(f"Item {item.id}: the picture cannot be read: {error}.") from error
            shown = _digest([self._prompt.digest, filled, [digests[image] for image in item.images]])
            yield Request.ask(shown, f"{IMAGE}\n" * len(item.images) + filled, item.images)

    def _try(self, number: int) -> tuple[SamplingParams, int]:
        if number and self._params.temperature == 0:
            return replace(self._params, temperature=AGAIN_TEMPERATURE), self._seed + number
        return self._params, self._seed + number

    def _key(self, shown: str, params: SamplingParams, seed: int) -> str:
        return _digest([self._engine.policy, shown, params.to_dict(), seed])

    def _answer(self, requests: Mapping[str, Request], params: SamplingParams, seed: int) -> None:
        """Sees to it that the cache has an answer for each key."""
        missing = [key for key in requests if self._cache.get(key) is None]
        self._count(cached=len(requests) - len(missing))
        hidden = not self._progress or not missing
        with tqdm(total=len(missing), desc="Judging", unit="answer", disable=hidden) as bar:
            for start in range(0, len(missing), self._batch_size):
                keys = missing[start : start + self._batch_size]
                found = self._engine.generate([requests[key] for key in keys], params, seed)
                if len(found) != len(keys):
                    raise EngineError(f"The engine answered {len(found)} of {len(keys)} requests.")
                answers = {key: (item[0].text, item[0].finish_reason) for key, item in zip(keys, found, strict=True)}
                self._cache.add(answers)
                self._count(asked=len(keys))
                bar.update(len(keys))

    def _read(self, key: str, tries: int) -> Judgement:
        text, finish_reason = self._cache.get(key) or ("", "")
        # The end of a cut answer is not known: a 1 may have become a 10.
        value = None if finish_reason == "length" else self._form.parse(text)
        return Judgement(value, text, tries)

    def _count(self, **more: int) -> None:
        self.stats = replace(self.stats, **{name: getattr(self.stats, name) + count for name, count in more.items()})


def judge_prompt(kind: Literal["yes_no", "score", "choice"], file: str | Path | None = None) -> Prompt:
    """The prompt that comes with the package for a form of answer, or a user's own with the same placeholders."""
    return load_prompt(file, f"judge_{kind}.txt", PLACEHOLDERS[kind])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
