# SPDX-License-Identifier: Apache-2.0
"""Sherlock's preference rows: a good response, and one that goes wrong after a given beginning.

For each question a place to cut at and a strength of noise are drawn. The model sees the disturbed picture and the
first part of a response, and goes on from there; that is the rejected response. Offline, the beginning is the
annotated response's, and that is chosen. Online, it is that of the model's own first answer, and its last correction
is chosen.

Rows hold whole responses and their prefixes, the draw, and the weight that follows from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import verify
from ..data.questions import Question
from ..data.tagged import TaggedText, read_tagged
from ..files import FileError, read_jsonl, relative, write_jsonl
from ..generate.types import Request, Sample
from .examples import Row, write_dataset
from .lengths import TokenLimit
from .noise import disturb
from .prompts import SherlockPrompts
from .records import MEDIA, RecipeError, by_id, rank, reference
from .sherlock import TURN, annotated_response, ask_prompt, concluding, correction_prompt, samples_of
from .sherlock_options import Draw, SherlockOptions


TAIL = f"{TURN}tail"
COLUMNS = MappingProxyType(
    {
        **{
            name: name
            for name in ("images", "chosen", "rejected", "prefix", "prefix_l", "weights", "id", "provenance")
        },
        "messages": "conversations",
    }
)


@dataclass(frozen=True)
class Pair:
    """A preference row.

    Attributes:
        id: unique within a data set.
        kind: `offline` or `online`.
        question: the question.
        prompt: the user's turn.
        chosen: the whole better response; it begins with `prefix`.
        rejected: the whole worse response; it begins with `prefix_l`.
        prefix: the part of `chosen` that is given, not trained.
        prefix_l: the same of `rejected`.
        draw: where it was cut, how the picture was disturbed, and the weight that follows.
        provenance: samples with iteration and policy.
    """

    id: str
    kind: str
    question: Question
    prompt: str
    chosen: str
    rejected: str
    prefix: str
    prefix_l: str
    draw: Draw
    provenance: Mapping[str, Any]

    def to_row(self, folder: Path) -> dict[str, Any]:
        """The row of a data set whose picture paths start from `folder`."""
        return {
            "id": self.id,
            "kind": self.kind,
            "images": [relative(image, folder) for image in self.question.images],
            "conversations": [{"from": "human", "value": self.prompt}],
            "chosen": {"from": "gpt", "value": self.chosen},
            "rejected": {"from": "gpt", "value": self.rejected},
            "prefix": self.prefix,
            "prefix_l": self.prefix_l,
            "weights": self.draw.weight,
            "cut": self.draw.cut,
            "noise": self.draw.noise,
            "provenance": json.dumps(self.provenance, ensure_ascii=False, sort_keys=True),
        }


@dataclass(frozen=True)
class Begun:
    """A question with a response whose beginning is given.

    Attributes:
        question: the question.
        response: a whole response.
    """

    question: Question
    response: TaggedText


@dataclass(frozen=True)
class Better:
    """A question with the response to choose and the one that the rejected response begins like.

    Attributes:
        question: the question.
        chosen: the response to choose.
        begun: the response that gives the rejected one's beginning.
        answer: what a rejected response must not say.
        provenance: where both come from.
    """

    question: Question
    chosen: TaggedText
    begun: TaggedText
    answer: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Tail:
    """A beginning that a model goes on from.

    Attributes:
        question: id of the question.
        request: shows the disturbed picture and the beginning.
        draw: what was drawn.
    """

    question: str
    request: Request
    draw: Draw

    def to_row(self, folder: Path) -> dict[str, Any]:
        """The line of a requests file in `folder`, which `mmself sample --requests` reads, too."""
        row = self.request.to_row()
        images = [relative(image, folder) for image in self.request.images]
        return {**row, "images": images, "question": self.question, "draw": asdict(self.draw)}


@dataclass(frozen=True)
class PairBuild:
    """What a build gives.

    Attributes:
        pairs: rows to train on.
        skipped: reason -> number of questions that gave none.
    """

    pairs: list[Pair]
    skipped: Mapping[str, int]


def annotated_beginnings(
    questions: Sequence[Question], options: SherlockOptions
) -> tuple[list[Begun], Mapping[str, int]]:
    """The questions whose annotated response is whole, and why others are not.

    Raises:
        RecipeError: a question comes twice or has no response.
    """
    begun, skipped = [], Counter[str]()
    for question in by_id(questions).values():
        truth, problem = annotated_response(question, options)
        if problem is None:
            begun.append(Begun(question, truth))
        else:
            skipped[f"annotated response: {problem}"] += 1
    return begun, dict(sorted(skipped.items()))


def make_tails(
    begun: Iterable[Begun], folder: Path, options: SherlockOptions, prompts: SherlockPrompts, seed: int
) -> list[Tail]:
    """Draws where to cut and how to disturb, and writes the disturbed pictures to `<folder>/images`.

    Responses that cannot be cut at the place that was drawn are left out; nothing else is drawn for them.
    """
    tails = []
    for item in begun:
        question = item.question
        draw = options.draw(seed, question.id)
        parts = item.response.cut(draw.cut)
        if parts is None:
            continue
        images = []
        for number, image in enumerate(question.images):
            dice = rank(seed, question.id, "noise", number)
            images.append(Path(folder) / "images" / f"{dice:016x}.png")
            disturb(Path(image), images[-1], draw.noise, dice, replace=draw.replaced)
        request = Request.ask(
            question.id + TAIL, ask_prompt(question, prompts), [str(image.resolve()) for image in images], parts[0]
        )
        tails.append(Tail(question.id, request, draw))
    return tails


def write_tails(path: Path, tails: Iterable[Tail]) -> None:
    """Writes beginnings as a requests file."""
    write_jsonl(path, (tail.to_row(path.parent) for tail in tails))


def read_tails(path: Path) -> list[Tail]:
    """Reads what `write_tails` wrote.

    Raises:
        FileError: naming file and line.
    """
    from ..generate.requests import read_requests

    tails = []
    for number, (row, request) in enumerate(zip(read_jsonl(path), read_requests(path), strict=True), start=1):
        try:
            tails.append(Tail(row["question"], request, Draw(**row["draw"])))
        except (KeyError, TypeError) as error:
            raise FileError(
                f"{path}, line {number}: this is no beginning of a response with `question` and `draw`; "
                "`mmself build sherlock offline` and `online` write them."
            ) from error
    return tails


def annotated_better(begun: Iterable[Begun]) -> list[Better]:
    """Offline: the annotated response is chosen, and the rejected one begins like it."""
    return [
        Better(item.question, item.response, item.response, item.question.answer, {"chosen": "response"})
        for item in begun
    ]


def build_pairs(
    kind: str,
    better: Sequence[Better],
    tails: Sequence[Tail],
    samples: Sequence[Sample],
    options: SherlockOptions,
    prompts: SherlockPrompts,
    profile: str,
    seed: int,
    *,
    iteration: int,
    limit: TokenLimit | None = None,
) -> PairBuild:
    """Puts chosen and rejected responses together; the first continuation that passes all gates is rejected.

    Args:
        kind: `offline` or `online`.
        better: what to choose.
        tails: the beginnings that were given.
        samples: how the model went on.
        options: tags and gates.
        prompts: as the samples were asked with.
        profile: verifier profile that says which responses are wrong.
        seed: of the order of rows.
        iteration: round of the policy that went on.
        limit: leaves out rows that training would cut.

    Raises:
        RecipeError: a question comes twice, or a sample belongs to none of the beginnings.
    """
    asked = by_id(item.question for item in better)
    drawn = {tail.question: tail for tail in tails}
    found = samples_of(asked, samples, TAIL)
    pairs, skipped = [], Counter[str]()
    for item in better:
        tail = drawn.get(item.question.id)
        cut = None if tail is None else (item.chosen.cut(tail.draw.cut), item.begun.cut(tail.draw.cut))
        if tail is None or cut is None or cut[0] is None or cut[1] is None:
            skipped["cannot be cut at the place that was drawn"] += 1
            continue
        if cut[1][0] != tail.request.prefix:
            raise RecipeError(
                f"Question {item.question.id!r}: its response begins otherwise than the one that was given to the "
                "model. Give the files that the continuations were sampled for."
            )
        problems = []
        for sample in found.get(item.question.id, ()):
            rejected = (cut[1][0] + sample.text).rstrip()
            problem = _gate(rejected, cut[1][0], cut[0], item, sample, options, profile)
            if problem is None:
                pair = _pair(kind, item, tail, rejected, sample, cut[0][0], prompts, iteration)
                problem = None if _fits(pair, prompts, limit) else "over the token limit of training"
                if problem is None:
                    pairs.append(pair)
                    break
            problems.append(f"rejected: {problem}")
        else:
            skipped[problems[0] if problems else "no continuation"] += 1
    order = sorted(pairs, key=lambda pair: (rank(seed, "mix", pair.id), pair.id))
    return PairBuild(order, dict(sorted(skipped.items())))


def write_pairs(folder: Path, name: str, pairs: Sequence[Row], *, register: Path | None = None) -> Path:
    """Writes preference rows and registers them for stage `sherlock_dpo`; see `examples.write_dataset`."""
    facts = {"ranking": True, "prefix_in_response": True}
    return write_dataset(folder, name, pairs, register=register, columns=COLUMNS, facts=facts)


def _gate(
    rejected: str,
    prefix_l: str,
    chosen: tuple[str, str],
    item: Better,
    sample: Sample,
    options: SherlockOptions,
    profile: str,
) -> str | None:
    """Why a continuation makes no rejected response, or None."""
    if sample.completion.finish_reason == "length":
        return "cut by the token limit"
    if MEDIA.search(rejected):
        return "holds a media placeholder"
    if not rejected[len(prefix_l) :].strip():
        return "empty"
    if "tags" in options.gates and (problem := read_tagged(rejected, options.tags).problem):
        return problem
    if rejected == "".join(chosen) or ("differs" in options.gates and rejected[len(prefix_l) :] == chosen[1]):
        return "the same as the chosen one"
    if "wrong" in options.gates:
        question = item.question
        verdict = verify.check(
            profile, concluding(rejected, options), item.answer, choices=question.choices, question=question.block
        )
        if not verdict.parsed:
            return "without an answer"
        return "right" if verdict.correct else None
    return None


def _pair(
    kind: str,
    item: Better,
    tail: Tail,
    rejected: str,
    sample: Sample,
    prefix: str,
    prompts: SherlockPrompts,
    iteration: int,
) -> Pair:
    question = item.question
    provenance = {
        "question": question.id,
        "iteration": iteration,
        "prompt": prompts.digest_of("ask"),
        "draw": asdict(tail.draw),
        "rejected": reference(sample, iteration),
        **item.provenance,
    }
    return Pair(
        id=f"{question.id}/{kind}{iteration}",
        kind=kind,
        question=question,
        prompt=ask_prompt(question, prompts),
        chosen=item.chosen.text,
        rejected=rejected,
        prefix=prefix,
        prefix_l=tail.request.prefix,
        draw=tail.draw,
        provenance=provenance,
    )


def _fits(pair: Pair, prompts: SherlockPrompts, limit: TokenLimit | None) -> bool:
    """Whether all ten sequences of a row fit into the limit; see `losses.sherlock`."""
    if limit is None:
        return True
    responses = (pair.chosen, pair.rejected)
    return all(
        limit.fits(correction_prompt(pair.question, example, prompts), response, pair.question.images)
        for example in responses
        for response in responses
    )
