# SPDX-License-Identifier: Apache-2.0
"""From sampled groups to entries: scores, pairs or advantages, negative pictures. Runs in worker threads."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ....files import write_bytes
from ....generate.negatives import Negative, NegativeMaker
from ....generate.services import HIGHEST, DescribeItem, ResponseScorer, ScoreItem
from ....losses.grpo import group_normalised
from ....losses.mdpo import strategy_roles
from ....recipes.ovip_pairs import REFERENCE_SCORE, Pair, choose_pairs
from ..arguments import GRPO, MDPOArguments
from .entries import Answer, Entry, Group, Outcome
from .prompts import OnlinePrompt, PromptOrder


EQUAL_TEXTS, EQUAL_SCORES, NO_PAIR, NO_SCORE = "equal texts", "equal scores", "no pair", "no score"


def needs_negative(args: MDPOArguments) -> bool:
    """Whether a strategy shows a painted picture."""
    if args.strategy == GRPO:
        return args.grpo_image_term == "negative"
    roles = set(strategy_roles(args.loss_strategy, args.vtcl_mode))
    return bool(roles & {"rc", "rr"}) and args.loss_strategy != "ori-mdpo"


class Annotator:
    """Makes outcomes of groups; may be used from several threads.

    Args:
        prompts: of the run.
        scorer: judges answers.
        maker: makes negative pictures.
        args: the stage's arguments.
        images: folder of the pictures.
    """

    def __init__(
        self, prompts: PromptOrder, scorer: ResponseScorer, maker: NegativeMaker, args: MDPOArguments, images: Path
    ) -> None:
        self._prompts = prompts
        self._scorer = scorer
        self._maker = maker
        self._args = args
        self._images = images
        self._paints = needs_negative(args)

    def __call__(self, group: Group) -> Outcome:
        """What becomes of a group.

        Raises:
            ServiceDead: a service answers nothing any more.
            FileError: a picture cannot be saved.
        """
        prompt = self._prompts[group.position]
        answers = self._scored(prompt, group)
        judged = [answer for answer in answers if answer.sampled]
        lost: Counter[str] = Counter()
        make = self._group_entries if self._args.strategy == GRPO else self._pair_entries
        entries = make(prompt, group, answers, lost) if judged else []
        if not judged:
            lost[NO_SCORE] += 1
        hardness = difficulty([answer.score or 0.0 for answer in judged])
        return Outcome(
            position=group.position,
            step=group.step,
            rank=group.rank,
            texts=tuple(answer.text for answer in answers),
            scores=tuple(answer.score or 0.0 for answer in answers),
            entries=tuple(replace(entry, difficulty=hardness) for entry in entries),
            duplicates=group.duplicates,
            unscored=len(group.answers) - len(answers),
            lost=dict(lost),
        )

    def _scored(self, prompt: OnlinePrompt, group: Group) -> list[Answer]:
        """The answers that have a score; a reference answer in the group has the highest."""
        reference = prompt.row.chosen
        sampled = [answer for answer in group.answers if answer.sampled]
        items = [
            ScoreItem(f"{group.position}#{number}", prompt.question, reference, answer.text, prompt.row.images)
            for number, answer in enumerate(sampled)
        ]
        scores = self._scorer.score(items) if items else []
        found = [
            replace(answer, score=float(score))
            for answer, score in zip(sampled, scores, strict=True)
            if score is not None
        ]
        return found + [replace(answer, score=HIGHEST) for answer in group.answers if not answer.sampled]

    # Pairs.

    def _pair_entries(
        self, prompt: OnlinePrompt, group: Group, answers: Sequence[Answer], lost: Counter[str]
    ) -> list[Entry]:
        args = self._args
        pairs = choose_pairs(
            [answer.score or 0.0 for answer in answers],
            rule=args.pair_rule,
            online_only=args.online_only,
            online_only_strategy=args.online_only_strategy,
        )
        lost[NO_PAIR] += not pairs
        entries = []
        for number, pair in enumerate(pairs):
            chosen, rejected = self._chosen(prompt, pair, answers), answers[pair.rejected]
            if chosen.text.strip() == rejected.text.strip():
                lost[EQUAL_TEXTS] += 1
                continue
            name = f"{group.position}.{number}"
            entries.append(Entry(name, group.position, group.step, (chosen, rejected), pair.how, rule=args.pair_rule))
        return self._with_negatives(prompt, entries, lost) if self._paints else entries

    def _chosen(self, prompt: OnlinePrompt, pair: Pair, answers: Sequence[Answer]) -> Answer:
        if pair.chosen is not None:
            return answers[pair.chosen]
        return Answer(prompt.row.chosen, prompt.reference_ids, score=REFERENCE_SCORE, sampled=False)

    def _with_negatives(self, prompt: OnlinePrompt, entries: Sequence[Entry], lost: Counter[str]) -> list[Entry]:
        """The entries that got a negative picture."""
        items = [self._item(prompt, entry.id, *entry.answers) for entry in entries]
        found = []
        for entry, made in zip(entries, self._maker.make(items), strict=True):
            if isinstance(made, Negative):
                found.append(self._shown(entry, made))
            else:
                lost[made.reason] += 1
        return found

    # Groups.

    def _group_entries(
        self, prompt: OnlinePrompt, group: Group, answers: Sequence[Answer], lost: Counter[str]
    ) -> list[Entry]:
        args = self._args
        scores = torch.tensor([answer.score or 0.0 for answer in answers], dtype=torch.float64)
        advantages = group_normalised(scores, torch.ones_like(scores, dtype=torch.bool)).tolist()
        if len(set(scores.tolist())) == 1 and args.quirks == "fixed":
            lost[EQUAL_SCORES] += 1  # nothing to learn but the penalty
            return []
        size = args.grpo_chunk or len(answers)
        entries = []
        for number, start in enumerate(range(0, len(answers), size)):
            part = slice(start, start + size)
            entries.append(
                Entry(
                    f"{group.position}.{number}",
                    group.position,
                    group.step,
                    tuple(answers[part]),
                    "group",
                    advantages=tuple(advantages[part]),
                )
            )
        return entries if args.grpo_image_term == "none" else self._with_image_term(prompt, answers, entries, lost)

    def _with_image_term(
        self, prompt: OnlinePrompt, answers: Sequence[Answer], entries: list[Entry], lost: Counter[str]
    ) -> list[Entry]:
        """The picture's term belongs to the best response, and to the entry that holds it."""
        best = max(range(len(answers)), key=lambda place: answers[place].score or 0.0)
        worst = min(range(len(answers)), key=lambda place: answers[place].score or 0.0)
        if answers[best].score == answers[worst].score:
            return entries
        size = len(entries[0].answers)
        number, place = divmod(best, size)
        entry = replace(entries[number], best=place, against=answers[worst])
        if self._paints:
            (made,) = self._maker.make([self._item(prompt, entry.id, answers[best], answers[worst])])
            if not isinstance(made, Negative):
                lost[made.reason] += 1
                return entries
            entry = self._shown(entry, made)
        return [*entries[:number], entry, *entries[number + 1 :]]

    # Pictures.

    def _item(self, prompt: OnlinePrompt, name: str, chosen: Answer, rejected: Answer) -> DescribeItem:
        row = prompt.row
        return DescribeItem(name, prompt.question, chosen.text, rejected.text, row.chosen, row.images)

    def _shown(self, entry: Entry, made: Negative) -> Entry:
        path = self._images / f"{hashlib.sha256(made.picture.png).hexdigest()}.png"
        if not path.exists():
            write_bytes(path, made.picture.png)
        figures = dict(made.figures)
        return replace(entry, description=made.description, negative=str(path), seed=made.seed, figures=figures)


def difficulty(scores: Sequence[float]) -> float:
    """How far scores are from the highest in the mean, from 0 to 1."""
    mean = sum(scores) / max(len(scores), 1)
    return min(max(1 - mean / HIGHEST, 0.0), 1.0)
