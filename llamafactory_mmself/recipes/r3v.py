# SPDX-License-Identifier: Apache-2.0
"""R3V: learning from the model's own right and wrong solutions (Cheng et al., arXiv 2411.00855).

From all solutions sampled so far, each question gives: the newest right solution to learn (`cot`), the newest wrong
one to correct (`refine`), sets of right and wrong ones to choose from (`select`), and its bare answer (`direct`).
Mixing is all that weighs them; the stage can weigh kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..data.questions import Question
from ..generate.types import Request
from .candidates import CandidateSet, drawn_sets, newest_sets, without_longest
from .examples import Example, direct_example, direct_prompt, mixed, read_examples
from .lengths import TokenLimit, fitting
from .options import check_types, options_from
from .prompts import Prompts
from .records import MEDIA, Checked, RecipeError, by_id, by_question, chance, shown
from .targets import VARIANTS, Variant, VariantName


Kind = Literal["direct", "cot", "refine", "select"]


@dataclass(frozen=True)
class R3VOptions:
    """Switches of the builder.

    Attributes:
        direct: adds the bare answer of every question. With `refine` and `select` off, this is STaR.
        refine: adds corrections of wrong solutions.
        select: adds selections among right and wrong solutions.
        letters_only: bare answers and nothing else; needs no samples.
        pool: samples of which iterations are used: all, the newest one only, or the first one only (a single round).
        select_candidates: sizes of the sets to select from. `(3,)` gives up to two sets of the newest solutions: two
            right and one wrong, one right and two wrong. Other sizes, such as 2 to 6, give drawn sets of each size.
        select_per_size: drawn sets of each size for a question, at most.
        min_characters: shorter texts are no solutions; None leaves it to the variant.
        bare_answers: whether texts that start with "Answer" are solutions; None leaves it to the variant.
        variant: the rules of one published builder, or the one clean rule for all data sets (see `targets`).
        quirks: with `published`, unparsed texts count as wrong solutions, answers cut by the token limit can be right
            ones, and drawn sets can repeat.
    """

    direct: bool = True
    refine: bool = True
    select: bool = True
    letters_only: bool = False
    pool: Literal["all", "newest", "first"] = "all"
    select_candidates: tuple[int, ...] = (3,)
    select_per_size: int = 3
    min_characters: int | None = None
    bare_answers: bool | None = None
    variant: VariantName = "unified"
    quirks: Literal["fixed", "published"] = "fixed"

    def __post_init__(self) -> None:
        check_types(self)
        if not self.select_candidates or min(self.select_candidates) < 2:
            found = list(self.select_candidates)
            raise RecipeError(f"Option `select_candidates`: sizes from 2 on are expected, found {found}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> R3VOptions:
        """Options from a YAML's values.

        Raises:
            RecipeError: naming the option.
        """
        return options_from(cls, values)

    @property
    def rules(self) -> Variant:
        """The variant's rules."""
        return VARIANTS[self.variant]


def direct_requests(questions: Iterable[Question], prompts: Prompts) -> list[Request]:
    """Asks each question for the final answer only; a request has its question's id."""
    return [Request.ask(item.id, direct_prompt(item, prompts), item.images) for item in questions]


def cot_requests(questions: Iterable[Question], prompts: Prompts) -> list[Request]:
    """Asks each question for a solution; a request has its question's id."""
    return [Request.ask(item.id, cot_prompt(item, prompts), item.images) for item in questions]


def select_requests(
    questions: Iterable[Question],
    candidates: Mapping[str, Sequence[str]],
    prompts: Prompts,
    seed: int,
    *,
    limit: TokenLimit | None = None,
) -> list[Request]:
    """Shows each question's candidates, in an order drawn from the seed, and asks for the right final answer.

    Args:
        questions: those without candidates are left out.
        candidates: question id -> sampled solutions, right or wrong.
        prompts: `select` and `candidate` are used.
        seed: of the order.
        limit: where it is passed, the longest candidates are left out until the prompt fits or one is left.
    """
    requests = []
    for question in questions:
        texts = list(candidates.get(question.id, ()))
        if not texts:
            continue
        chance(seed, question.id, "test-select").shuffle(texts)
        prompt = select_prompt(question, fitting_candidates(question, texts, prompts, limit), prompts)
        requests.append(Request.ask(question.id, prompt, question.images))
    return requests


def fitting_candidates(
    question: Question, texts: Sequence[str], prompts: Prompts, limit: TokenLimit | None
) -> list[str]:
    """The candidates that a selection can show: without the longest ones until the prompt fits, or one is left."""
    kept = list(texts)
    while (
        limit is not None
        and len(kept) > 1
        and not limit.fits(select_prompt(question, kept, prompts), "", question.images)
    ):
        kept.remove(max(kept, key=len))
    return kept


def build(
    questions: Sequence[Question],
    pool: Sequence[Checked],
    options: R3VOptions,
    prompts: Prompts,
    seed: int,
    *,
    limit: TokenLimit | None = None,
) -> list[Example]:
    """Builds the training examples of a round.

    The result depends on the seed and on what the arguments hold, not on the order of questions and samples. Samples
    of questions that are not given are left alone, so a part of the questions gives a part of the examples.

    Args:
        questions: the training questions.
        pool: checked samples of all rounds so far.
        options: switches.
        prompts: as the samples were asked with.
        seed: of candidate sets, candidate order and mixing.
        limit: leaves out examples that would not fit; selections lose candidates first.

    Raises:
        RecipeError: a question or a sample comes twice.
    """
    asked = by_id(questions)
    groups = by_question(_chosen(pool, options))
    examples: list[Example] = []
    for id, question in asked.items():
        right, wrong = material(groups.get(id, ()), options)
        if options.direct or options.letters_only:
            examples.append(direct_example(question, prompts))
        if options.letters_only or not right:
            continue
        examples.append(_cot(question, right[-1], prompts))
        if options.refine and wrong:
            examples.append(_refine(question, right[-1], wrong[-1], prompts))
        if options.select and wrong:
            examples += _selections(question, right, wrong, options, prompts, seed, limit)
    return mixed(fitting(examples, limit), seed)


def warmup_examples(path: Path) -> list[Example]:
    """Solutions to start from, written by someone or something better: rows of one human and one gpt turn.

    Raises:
        FileError, RecipeError: naming file, row and field.
    """
    return read_examples(path, kind="cot")


def material(samples: Iterable[Checked], options: R3VOptions) -> tuple[list[Checked], list[Checked]]:
    """The right and the wrong solutions of a question, the oldest first.

    An unparsed text is neither, nor is one that is right but was cut by the token limit.
    """
    groups: dict[str, list[Checked]] = {"right": [], "wrong": []}
    for item in sorted(samples, key=lambda item: item.age):
        groups.setdefault(role(item, options), []).append(item)
    return groups["right"], groups["wrong"]


def role(item: Checked, options: R3VOptions) -> str:
    """What a sample can be used for: right, wrong, or the reason why for nothing."""
    published = options.quirks == "published"
    rules = options.rules
    least = rules.min_characters if options.min_characters is None else options.min_characters
    bare = rules.bare_answers if options.bare_answers is None else options.bare_answers
    if not published and not item.verdict.parsed:
        return "unparsed"
    if not item.text or len(item.text) < least:
        return "too short"
    if not bare and item.text.startswith("Answer"):
        return "bare answer"
    if not item.verdict.correct:
        return "wrong"
    if item.cut and not published:
        return "right but cut"
    return "right but with a media placeholder" if MEDIA.search(item.text) else "right"


def survey(questions: Iterable[Question], pool: Iterable[Checked], options: R3VOptions) -> dict[str, int]:
    """Counts samples by their use, and questions by what they can teach."""
    groups = by_question(_chosen(list(pool), options))
    counts: Counter[str] = Counter()
    for question in by_id(questions).values():
        samples = groups.get(question.id, [])
        counts.update(f"samples: {role(item, options)}" for item in samples)
        right, wrong = (bool(group) for group in material(samples, options))
        names = {(True, True): "mixed", (True, False): "right only", (False, True): "wrong only"}
        counts[f"questions: {names.get((right, wrong), 'without a usable sample')}"] += 1
    return dict(sorted(counts.items()))


def cot_prompt(question: Question, prompts: Prompts) -> str:
    """The user's turn that asks for a solution."""
    return question.placeholders + prompts.cot.fill(question=question.block)


def select_prompt(question: Question, texts: Sequence[str], prompts: Prompts) -> str:
    """The user's turn that shows candidates in this order."""
    numbered = (
        prompts.candidate.fill(number=str(number), solution=shown(text)) for number, text in enumerate(texts, start=1)
    )
    return question.placeholders + prompts.select.fill(question=question.block, candidates="\n".join(numbered))


def _chosen(pool: Sequence[Checked], options: R3VOptions) -> Sequence[Checked]:
    if options.pool == "all" or not pool:
        return pool
    pick: Callable[[Iterable[int]], int] = max if options.pool == "newest" else min
    iteration = pick(item.iteration for item in pool)
    return [item for item in pool if item.iteration == iteration]


def _cot(question: Question, right: Checked, prompts: Prompts) -> Example:
    provenance = {"target": right.reference(), "shown": []}
    prompt = cot_prompt(question, prompts)
    return _example(question, "cot", "", [right], prompt, right.text, prompts.digest_of("cot"), provenance)


def _refine(question: Question, right: Checked, wrong: Checked, prompts: Prompts) -> Example:
    provenance = {"target": right.reference(), "shown": [wrong.reference()]}
    filled = prompts.refine.fill(question=question.block, prediction=shown(wrong.text))
    prompt, digest = question.placeholders + filled, prompts.digest_of("refine")
    return _example(question, "refine", "", [right, wrong], prompt, right.text, digest, provenance)


def _selections(
    question: Question,
    right: Sequence[Checked],
    wrong: Sequence[Checked],
    options: R3VOptions,
    prompts: Prompts,
    seed: int,
    limit: TokenLimit | None,
) -> list[Example]:
    if options.select_candidates == (3,):
        sets = newest_sets(right, wrong)
    else:
        repeat = options.quirks == "published"
        random = chance(seed, question.id, "select-sets")
        sets = drawn_sets(right, wrong, options.select_candidates, options.select_per_size, random, repeat=repeat)
    examples: dict[frozenset[Any], Example] = {}
    for chosen in sets:
        row = _selection(question, chosen, options, prompts, seed, limit)
        if row is None and options.rules.chained:
            break
        if row is not None:
            members = frozenset((item["iteration"], item["id"]) for item in row.provenance["shown"])
            # Sets that lost candidates to the limit can have become equal.
            key = members if options.quirks == "fixed" else frozenset([row.id])
            examples.setdefault(key, row)
    return list(examples.values())


def _selection(
    question: Question,
    chosen: CandidateSet,
    options: R3VOptions,
    prompts: Prompts,
    seed: int,
    limit: TokenLimit | None,
) -> Example | None:
    """A row for a set; candidates that do not fit into the limit are left out, the row too when too few are left."""
    order = chosen.shuffled(chance(seed, question.id, "select", chosen.name))
    while order:
        right = sorted((item for item in order if item.verdict.correct), key=lambda item: item.age, reverse=True)
        target = options.rules.target(question, right)
        if target is None:
            return None
        prompt = select_prompt(question, [item.text for item in order], prompts)
        if limit is None or limit.fits(prompt, target, question.images):
            provenance = {"target": None, "shown": [item.reference() for item in order]}
            digest = prompts.digest_of("select", "candidate")
            samples = (*chosen.right, *chosen.wrong)  # the id stays when candidates are left out
            return _example(question, "select", chosen.name, samples, prompt, target, digest, provenance)
        order = without_longest(order)
    return None


def _example(
    question: Question,
    kind: Kind,
    name: str,
    samples: Sequence[Checked],
    prompt: str,
    target: str,
    digest: str,
    provenance: Mapping[str, Any],
) -> Example:
    iteration = max(item.iteration for item in samples)
    id = f"{question.id}/iter{iteration}/{kind}" + (f"-{name}" if name else "")
    return Example(
        id=id,
        kind=kind,
        question=question.id,
        images=question.images,
        prompt=prompt,
        target=target,
        pair=id if kind == "select" else question.id,
        provenance={"question": question.id, "iteration": iteration, "prompt": digest, **provenance},
    )
