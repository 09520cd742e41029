# SPDX-License-Identifier: Apache-2.0
"""Negative pictures for pairs of responses: describe, paint, check, and paint again with another seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .seeds import derived_seed
from .services import CheckItem, DescribeItem, PaintFailure, PaintRequest, Picture, Services


NO_DESCRIPTION = "no description"
NOT_PAINTED = "not painted"


@dataclass(frozen=True)
class Negative:
    """A negative picture of a pair.

    Attributes:
        description: what it was painted from.
        picture: the picture.
        seed: of the painter.
        figures: what the checks measured.
    """

    description: str
    picture: Picture
    seed: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class NoNegative:
    """A pair without a negative picture.

    Attributes:
        reason: `NO_DESCRIPTION`, `NOT_PAINTED`, or what the checks say against the last picture.
        description: what should have been painted, if anything was described.
        detail: what was said about it.
    """

    reason: str
    description: str | None = None
    detail: str = ""


class NegativeMaker:
    """Makes negative pictures; may be used from several threads.

    A picture's seed follows from the maker's seed, the pair's id and the number of the attempt, so that every picture
    has noise of its own and yet is the same whenever it is painted.

    Args:
        services: who describes, paints and checks, and how many pictures are painted for a pair at most.
        seed: see above.
    """

    def __init__(self, services: Services, seed: int = 0) -> None:
        self._services = services
        self._seed = seed

    def make(self, pairs: Sequence[DescribeItem]) -> list[Negative | NoNegative]:
        """A negative picture for each pair, or why there is none, in their order.

        Raises:
            ServiceDead: a service answers nothing any more.
        """
        if not pairs:
            return []
        descriptions = self._services.describer.describe(pairs)
        found: list[Negative | NoNegative] = [
            NoNegative(NO_DESCRIPTION if description is None else NOT_PAINTED, description)
            for description in descriptions
        ]
        waiting = {place: text for place, text in enumerate(descriptions) if text is not None}
        for attempt in range(self._services.attempts):
            if not waiting:
                break
            self._attempt(attempt, pairs, waiting, found)
            waiting = {place: text for place, text in waiting.items() if isinstance(found[place], NoNegative)}
        return found

    def _attempt(
        self,
        attempt: int,
        pairs: Sequence[DescribeItem],
        waiting: Mapping[int, str],
        found: list[Negative | NoNegative],
    ) -> None:
        """Paints and checks one picture for each pair that waits for one."""
        asked = [
            PaintRequest(pairs[place].id, text, derived_seed(self._seed, "negative", pairs[place].id, attempt))
            for place, text in waiting.items()
        ]
        painted: list[tuple[int, PaintRequest, Picture]] = []
        for place, request, result in zip(waiting, asked, self._services.painter.paint(asked), strict=True):
            if isinstance(result, PaintFailure):
                found[place] = NoNegative(NOT_PAINTED, request.prompt, result.reason)
            else:
                painted.append((place, request, result))
        items = [CheckItem(pairs[place], request.prompt, picture) for place, request, picture in painted]
        checks = self._services.checks.check(items) if items else []
        for (place, request, picture), check in zip(painted, checks, strict=True):
            if check.kept:
                found[place] = Negative(request.prompt, picture, request.seed, dict(check.figures or {}))
            else:
                found[place] = NoNegative(check.reason, request.prompt)
