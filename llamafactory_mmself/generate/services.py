# SPDX-License-Identifier: Apache-2.0
"""What OViP's sampling loop asks others for: scores of responses, descriptions of pictures, and the pictures.

`load_services` (`generate.service_config`) makes all of them from a YAML file. Whatever answers behind these
protocols, an item that fails is None or a failure with a reason, and counted; only a service that answers nothing at
all for longer than it may ends the run, with `ServiceDead`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .types import EngineError


LOWEST, HIGHEST = 0.0, 10.0  # scores


class ServiceDead(EngineError):
    """A service that has answered nothing for longer than `dead_after`, with its name and what to do.

    Attributes:
        service: `judge`, `describer` or `painter`.
    """

    def __init__(self, service: str, text: str) -> None:
        super().__init__(text)
        self.service = service


@dataclass(frozen=True)
class ScoreItem:
    """A response to be scored.

    Attributes:
        id: for messages.
        question: the prompt without placeholders of pictures.
        reference: the ground truth, which may be incomplete.
        response: what the policy said.
        images: paths of the prompt's pictures; whether the judge is shown them is its own setting.
    """

    id: str
    question: str
    reference: str
    response: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class DescribeItem:
    """A pair whose negative picture is to be described.

    Attributes:
        id: for messages.
        question: the prompt without placeholders of pictures.
        chosen: the better response, which has to be wrong about the picture.
        rejected: the worse response, which has to be right about it.
        reference: the ground truth about the real picture.
        images: paths of the real pictures.
    """

    id: str
    question: str
    chosen: str
    rejected: str
    reference: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaintRequest:
    """A picture to be painted.

    Attributes:
        id: for messages.
        prompt: what the picture shows.
        seed: of the painter's noise.
    """

    id: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Picture:
    """A painted picture as the bytes of a PNG file."""

    png: bytes


@dataclass(frozen=True)
class PaintFailure:
    """A picture that was not painted, and what was said about it."""

    reason: str


@dataclass(frozen=True)
class CheckItem:
    """A painted picture to be checked against its pair.

    Attributes:
        pair: what the picture was painted for.
        description: its prompt.
        picture: what was painted.
    """

    pair: DescribeItem
    description: str
    picture: Picture


@dataclass(frozen=True)
class NegativeCheck:
    """Whether a painted picture may serve as a negative one.

    Attributes:
        kept: whether it may.
        reason: why not; one of a few words that are counted, such as `too similar`.
        figures: what was measured, for provenance: `difference`, `claim_seen`.
    """

    kept: bool
    reason: str = ""
    figures: Mapping[str, float] | None = None


class ResponseScorer(Protocol):
    """Scores responses."""

    @property
    def policy(self) -> str:
        """Who scores, with which prompt: equal for equal scores of equal items; a part of digests."""
        ...

    def score(self, items: Sequence[ScoreItem]) -> list[float | None]:
        """A score from `LOWEST` to `HIGHEST` for each item, in their order; None where none can be read or had.

        May be called from several threads.

        Raises:
            ServiceDead: nothing is answered any more.
        """
        ...

    def counts(self) -> Mapping[str, int]:
        """Since the start: `asked`, `cached`, `unparsed`, `failed` items, and what else the scorer counts."""
        ...


class Describer(Protocol):
    """Says what a picture would show for which the rejected response is right and the chosen one is wrong."""

    @property
    def policy(self) -> str:
        """See `ResponseScorer.policy`."""
        ...

    def describe(self, items: Sequence[DescribeItem]) -> list[str | None]:
        """A description for each item, in their order; None where there is none. Threads and errors as for `score`."""
        ...

    def counts(self) -> Mapping[str, int]:
        """See `ResponseScorer.counts`."""
        ...


class Painter(Protocol):
    """Paints pictures from descriptions."""

    @property
    def policy(self) -> str:
        """See `ResponseScorer.policy`."""
        ...

    def paint(self, requests: Sequence[PaintRequest]) -> list[Picture | PaintFailure]:
        """A picture for each request, in their order. Threads and errors as for `score`."""
        ...

    def counts(self) -> Mapping[str, int]:
        """See `ResponseScorer.counts`."""
        ...


class PictureChecks(Protocol):
    """Looks at painted pictures."""

    @property
    def policy(self) -> str:
        """See `ResponseScorer.policy`."""
        ...

    def check(self, items: Sequence[CheckItem]) -> list[NegativeCheck]:
        """A verdict for each picture, in their order. Threads and errors as for `score`."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Since the start: `kept` pictures, and those that were not by reason."""
        ...


class Closing(Protocol):
    """What is open behind services."""

    def close(self) -> None:
        """Ends connections; may be called twice."""
        ...


@dataclass(frozen=True)
class Services:
    """All that the loop asks others for.

    Attributes:
        scorer: scores responses.
        describer: describes negative pictures.
        painter: paints them.
        checks: looks at what was painted.
        attempts: pictures to paint for a pair, each with a seed of its own, until one is kept.
        open: what has to be closed in the end.
    """

    scorer: ResponseScorer
    describer: Describer
    painter: Painter
    checks: PictureChecks
    attempts: int = 2
    open: tuple[Closing, ...] = ()

    @property
    def policies(self) -> dict[str, str]:
        """Who does what, for manifests and digests."""
        return {
            "judge": self.scorer.policy,
            "describer": self.describer.policy,
            "painter": self.painter.policy,
            "checks": self.checks.policy,
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """What each has done since the start."""
        return {
            "judge": dict(self.scorer.counts()),
            "describer": dict(self.describer.counts()),
            "painter": dict(self.painter.counts()),
            "checks": dict(self.checks.counts()),
        }

    def close(self) -> None:
        """Ends all connections."""
        for item in self.open:
            item.close()

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
