# SPDX-License-Identifier: Apache-2.0
"""OViP's offline set: responses of the model scored and paired, each pair with a negative picture of its own.

For each prompt the sampled responses are judged against the reference, pairs are chosen by a rule (`ovip_pairs`), a
picture is described for which the rejected response would be right, painted and checked. A pair whose picture is kept
is a row with two pictures; see arXiv 2505.15963, section 3.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from ..data.rows import PreferenceRow
from ..files import digest, relative, write_bytes
from ..generate.cache import AnswerCache
from ..generate.negatives import Negative, NegativeMaker
from ..generate.services import DescribeItem, ScoreItem, Services
from ..generate.types import Message, Request, Sample
from .examples import write_dataset
from .options import check_types, options_from
from .ovip_pairs import Pair, check_rule, choose_pairs, distinct
from .ovip_prompts import bare_question
from .records import MEDIA, RecipeError


COLUMNS = MappingProxyType(
    {
        **{name: name for name in ("images", "rejected_images", "chosen", "rejected", "id", "provenance")},
        "messages": "conversations",
    }
)
SPEAKERS = {"user": "human", "assistant": "gpt"}
REFERENCE = "reference"


@dataclass(frozen=True)
class OvipOptions:
    """How pairs are chosen.

    Attributes:
        pair_rule: see `ovip_pairs`.
        online_only: never take the reference for the chosen response.
        online_only_strategy: see `ovip_pairs.choose_pairs`.
        pairs: of a prompt at most; None takes all.
        chunk: prompts that are judged, described and painted together; what is finished is on the disk after each.
    """

    pair_rule: str = "robust"
    online_only: bool = False
    online_only_strategy: str = ""
    pairs: int | None = None
    chunk: int = 16

    def __post_init__(self) -> None:
        check_types(self)
        check_rule(self.pair_rule, self.online_only_strategy)
        for name in ("pairs", "chunk"):
            if vars(self)[name] == 0:
                raise RecipeError(f"Option `{name}` has to be 1 or more.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OvipOptions:
        """Makes options from plain values.

        Raises:
            RecipeError: for unknown names and wrong values.
        """
        return options_from(cls, values)


@dataclass(frozen=True)
class OvipRow:
    """A pair with its real and its negative picture.

    Attributes:
        id: the prompt's id and the pair's number.
        prompt: the prompt, with its real pictures.
        chosen: the better response.
        rejected: the worse one.
        negative: path of the negative picture.
        provenance: scores, samples, rule, description, seed, who judged and painted.
    """

    id: str
    prompt: PreferenceRow
    chosen: str
    rejected: str
    negative: str
    provenance: Mapping[str, Any]

    def to_row(self, folder: Path) -> dict[str, Any]:
        """The row of a data set whose picture paths start from `folder`."""
        turns = [{"from": SPEAKERS[turn.role], "value": turn.content} for turn in self.prompt.prompt]
        system = [{"from": "system", "value": self.prompt.system}] if self.prompt.system else []
        images = [relative(image, folder) for image in self.prompt.images]
        return {
            "id": self.id,
            "images": images,
            "rejected_images": [relative(self.negative, folder), *images[1:]],
            "conversations": [*system, *turns],
            "chosen": {"from": "gpt", "value": self.chosen},
            "rejected": {"from": "gpt", "value": self.rejected},
            "provenance": json.dumps(self.provenance, ensure_ascii=False, sort_keys=True),
        }


@dataclass(frozen=True)
class OvipBuild:
    """What a build gives.

    Attributes:
        rows: to train on, in the order of the prompts.
        counts: prompts, responses, pairs by how they came about, rows, and pairs without a picture by reason.
    """

    rows: list[OvipRow]
    counts: Mapping[str, int]


def prompt_requests(prompts: Sequence[PreferenceRow]) -> list[Request]:
    """One request a prompt; a prompt that comes several times gets a number behind its key.

    Raises:
        RecipeError: a prompt without a picture, with a video, or with turns of others than user and assistant.
    """
    seen: Counter[str] = Counter()
    requests = []
    for row in prompts:
        where = f"{row.file}, row {row.row}"
        if not row.images or row.videos:
            raise RecipeError(f"{where}: a prompt with pictures and no videos is expected.")
        if strange := [turn.role for turn in row.prompt if turn.role not in SPEAKERS]:
            raise RecipeError(f"{where}: turns of user and assistant are expected, found {strange[0]!r}.")
        seen[row.key] += 1
        id = row.key if seen[row.key] == 1 else f"{row.key}~{seen[row.key]}"
        system = [Message("system", row.system)] if row.system else []
        turns = [Message(turn.role, turn.content) for turn in row.prompt]  # type: ignore[arg-type]
        requests.append(Request(id, (*system, *turns), row.images))
    return requests


def build(
    prompts: Sequence[PreferenceRow],
    samples: Iterable[Sample],
    services: Services,
    options: OvipOptions,
    folder: Path,
    name: str,
    seed: int,
    *,
    progress: bool = False,
) -> OvipBuild:
    """Judges, pairs, describes and paints; what an earlier call has finished is taken from the disk.

    Args:
        prompts: what was asked, with references.
        samples: responses; their requests are those of `prompt_requests`.
        services: judge, describer, painter, checks.
        options: how pairs are chosen.
        folder: where `<name>_images` and the journal `<name>_pairs.jsonl` go.
        name: of the data set.
        seed: of the painter's noise.
        progress: whether to show a bar.

    Raises:
        RecipeError: a sample belongs to none of the prompts.
        ServiceDead: a service answers nothing any more; finished prompts are kept.
        FileError: a file cannot be written.
    """
    asked = list(_with_responses(prompts, samples))
    work = _Work(services, options, Path(folder).resolve(), name, seed)
    with tqdm(total=len(asked), desc="pairs with pictures", unit="prompt", disable=not progress) as bar:
        open_ = [item for item in asked if not work.finished(item)]
        bar.update(len(asked) - len(open_))
        for start in range(0, len(open_), options.chunk):
            chunk = open_[start : start + options.chunk]
            work.finish(chunk)
            bar.update(len(chunk))
    counts: Counter[str] = Counter(prompts=len(asked))
    rows: list[OvipRow] = []
    for item in asked:
        outcome = work.outcome(item)
        counts.update(outcome["counts"])
        rows += _rows(item, outcome, work.images)
    return OvipBuild(rows, {**counts, "rows": len(rows)})


def write_rows(folder: Path, name: str, rows: Sequence[OvipRow], *, register: Path | None = None) -> Path:
    """Writes rows and registers them for stage `mdpo`; see `examples.write_dataset`."""
    return write_dataset(folder, name, rows, register=register, columns=COLUMNS, facts={"ranking": True})


@dataclass(frozen=True)
class _Asked:
    """A prompt with its responses: the texts that differ, and the samples they come from."""

    id: str
    row: PreferenceRow
    samples: tuple[Sample, ...]
    sampled: int


def _with_responses(prompts: Sequence[PreferenceRow], samples: Iterable[Sample]) -> Iterator[_Asked]:
    groups: dict[str, list[Sample]] = {request.id: [] for request in prompt_requests(prompts)}
    for sample in samples:
        if sample.request not in groups:
            raise RecipeError(
                f"The sample {sample.id!r} answers none of the prompts. Give the file of prompts that was sampled."
            )
        groups[sample.request].append(sample)
    for (id, group), row in zip(groups.items(), prompts, strict=True):
        usable = [sample for sample in group if sample.text.strip() and not MEDIA.search(sample.text)]
        kept = distinct([sample.text.strip() for sample in usable])
        yield _Asked(id, row, tuple(usable[place] for place in kept), len(group))


class _Work:
    """Prompts on their way to rows, and the journal of those that are done."""

    def __init__(self, services: Services, options: OvipOptions, folder: Path, name: str, seed: int) -> None:
        self._services = services
        self._options = options
        self._negatives = NegativeMaker(services, seed)
        self._journal = AnswerCache(folder / f"{name}_pairs.jsonl")
        self.images = folder / f"{name}_images"
        settings = {name: value for name, value in asdict(options).items() if name != "chunk"}
        self._settings = [services.policies, services.attempts, settings, seed]
        self._keys: dict[str, str] = {}

    def finished(self, item: _Asked) -> bool:
        """Whether a prompt is in the journal and its pictures are there, as they were written."""
        found = self._journal.get(self._key(item))
        if found is None:
            return False
        pictures = [self.images / pair["picture"] for pair in json.loads(found[0])["pairs"]]
        return all(picture.is_file() and _named(picture.read_bytes()) == picture.name for picture in pictures)

    def outcome(self, item: _Asked) -> dict[str, Any]:
        """What the journal says about a prompt."""
        found = self._journal.get(self._key(item))
        assert found is not None, item.id
        outcome: dict[str, Any] = json.loads(found[0])
        return outcome

    def finish(self, items: Sequence[_Asked]) -> None:
        """Does prompts from their scores to their pictures, and puts them into the journal."""
        scored = self._scored(items)
        pairs = [
            (item, scores, pair)
            for item, scores in zip(items, scored, strict=True)
            for pair in choose_pairs(
                [score for _, score in scores],
                rule=self._options.pair_rule,
                online_only=self._options.online_only,
                online_only_strategy=self._options.online_only_strategy,
                limit=self._options.pairs,
            )
        ]
        numbers: Counter[str] = Counter()
        wanted: list[DescribeItem] = []
        for item, scores, pair in pairs:
            wanted.append(_describe_item(item, scores, pair, numbers[item.id]))
            numbers[item.id] += 1
        made = self._negatives.make(wanted)
        outcomes = {item.id: _empty(item, scores) for item, scores in zip(items, scored, strict=True)}
        for item in items:
            outcomes[item.id]["counts"]["prompts without a pair"] = int(not numbers[item.id])
        for (item, scores, pair), wish, negative in zip(pairs, wanted, made, strict=True):
            self._add(outcomes[item.id], scores, pair, wish, negative)
        entries = {self._key(item): (json.dumps(outcomes[item.id], ensure_ascii=False), "done") for item in items}
        self._journal.replace(entries)  # a picture that is gone was painted anew

    def _scored(self, items: Sequence[_Asked]) -> list[list[tuple[Sample, float]]]:
        """For each prompt the responses that have a score."""
        asked = [
            ScoreItem(sample.id, bare_question(item.row), item.row.chosen, sample.text.strip(), item.row.images)
            for item in items
            for sample in item.samples
        ]
        scores = iter(self._services.scorer.score(asked))
        scored = [[(sample, next(scores)) for sample in item.samples] for item in items]
        return [[(sample, score) for sample, score in group if score is not None] for group in scored]

    def _add(
        self,
        outcome: dict[str, Any],
        scores: Sequence[tuple[Sample, float]],
        pair: Pair,
        wish: DescribeItem,
        negative: Any,
    ) -> None:
        counts: dict[str, int] = outcome["counts"]
        counts[f"pairs: {pair.how}"] = counts.get(f"pairs: {pair.how}", 0) + 1
        if not isinstance(negative, Negative):
            reason = f"left out: {negative.reason}"
            counts[reason] = counts.get(reason, 0) + 1
            return
        picture = _named(negative.picture.png)
        write_bytes(self.images / picture, negative.picture.png)
        chosen = REFERENCE if pair.chosen is None else scores[pair.chosen][0].id
        policies = self._services.policies
        provenance = {
            "source": "ovip",
            "policy": scores[pair.rejected][0].policy,
            "rule": self._options.pair_rule,
            "how": pair.how,
            "chosen": {"sample": chosen, "score": pair.chosen_score},
            "rejected": {"sample": scores[pair.rejected][0].id, "score": pair.rejected_score},
            "description": negative.description,
            "seed": negative.seed,
            "figures": dict(negative.figures),
            "services": policies,
        }
        outcome["pairs"].append(
            {
                "id": wish.id,
                "chosen": wish.chosen,
                "rejected": wish.rejected,
                "picture": picture,
                "provenance": provenance,
            }
        )

    def _key(self, item: _Asked) -> str:
        """Digest of all that a prompt's rows depend on."""
        if item.id not in self._keys:
            row = item.row
            facts = [row.system, row.prompt, row.chosen, [digest(Path(image)) for image in row.images]]
            texts = [[sample.id, sample.policy, sample.text] for sample in item.samples]
            text = json.dumps([self._settings, item.id, item.sampled, facts, texts], sort_keys=True)
            self._keys[item.id] = hashlib.sha256(text.encode()).hexdigest()
        return self._keys[item.id]


def _named(png: bytes) -> str:
    """The name of a picture's file, which follows from its content."""
    return f"{hashlib.sha256(png).hexdigest()[:32]}.png"


def _empty(item: _Asked, scores: Sequence[tuple[Sample, float]]) -> dict[str, Any]:
    """A prompt's entry in the journal before any pair is in it."""
    return {
        "prompt": item.id,
        "scores": {sample.id: score for sample, score in scores},
        "counts": {
            "responses": item.sampled,
            "different responses": len(item.samples),
            "without a score": len(item.samples) - len(scores),
        },
        "pairs": [],
    }


def _describe_item(item: _Asked, scores: Sequence[tuple[Sample, float]], pair: Pair, number: int) -> DescribeItem:
    row = item.row
    chosen = row.chosen if pair.chosen is None else scores[pair.chosen][0].text.strip()
    rejected = scores[pair.rejected][0].text.strip()
    id = f"{item.id}/ovip{number}"
    return DescribeItem(id, bare_question(row), chosen, rejected, row.chosen, row.images)


def _rows(item: _Asked, outcome: Mapping[str, Any], images: Path) -> list[OvipRow]:
    return [
        OvipRow(
            pair["id"],
            item.row,
            pair["chosen"],
            pair["rejected"],
            str(images / pair["picture"]),
            {"prompt": item.id, **pair["provenance"]},
        )
        for pair in outcome["pairs"]
    ]
