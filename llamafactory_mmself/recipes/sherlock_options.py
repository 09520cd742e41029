# SPDX-License-Identifier: Apache-2.0
"""Switches of Sherlock's builders, and what is drawn for each row: where it is cut, how strong the noise is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from ..data.tagged import TAGS
from .options import check_types, options_from
from .records import RecipeError, chance


Gate = Literal["tags", "differs", "wrong"]


@dataclass(frozen=True)
class Preset:
    """Where responses are cut and how pictures are disturbed.

    Attributes:
        cuts: places to draw from; see `data.tagged.TaggedText.cut`.
        noise: the lowest and the highest strength.
        replaced: places with which random pixels stand in for the picture.
    """

    cuts: tuple[int, ...]
    noise: tuple[float, float]
    replaced: tuple[int, ...] = ()


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "paper": Preset((1, 2, 3, 4), (0.0, 1.0)),
        "published": Preset((1, 2, 3), (0.15, 0.25), (3,)),
    }
)


@dataclass(frozen=True)
class SherlockOptions:
    """Switches of the builders.

    Attributes:
        preset: `paper`: four places to cut at, noise of any strength. `published`: what the published code draws.
        n: rows of each of the two samples that `split` draws.
        tags: names of a response's sections, in their order; the last one holds the answer.
        cuts: places to draw from; None leaves it to the preset, or takes all where `tags` are not four.
        noise: the lowest and the highest strength of noise; None leaves it to the preset.
        corrections: how often an online answer is corrected; all corrections have to agree.
        pairs: online pairs to look for; sampling stops when so many questions have agreed. None: no stop.
        chunk: online questions that are sampled together.
        tails: continuations sampled for a pair; the first one that passes all gates is taken.
        gates: what a rejected answer has to be: `tags` whole, `differs` from the chosen one, `wrong`.
    """

    preset: Literal["paper", "published"] = "paper"
    n: int = 10_000
    tags: tuple[str, ...] = TAGS
    cuts: tuple[int, ...] | None = None
    noise: tuple[float, ...] | None = None
    corrections: int = 3
    pairs: int | None = 5_000
    chunk: int = 512
    tails: int = 1
    gates: tuple[Gate, ...] = ("tags", "differs", "wrong")

    def __post_init__(self) -> None:
        check_types(self)
        if (
            len(self.tags) < 2
            or len(set(self.tags)) < len(self.tags)
            or not all(tag.isidentifier() for tag in self.tags)
        ):
            raise RecipeError(f"Option `tags`: two or more different names are expected, found {list(self.tags)}.")
        if not self.places or not set(self.places) <= set(range(1, len(self.tags) + 1)):
            raise RecipeError(
                f"Option `cuts`: places from 1 to {len(self.tags)} are expected, found {list(self.places)}."
            )
        if len(self.strengths) != 2 or not 0 <= self.strengths[0] <= self.strengths[1] <= 1:
            raise RecipeError(f"Option `noise`: two strengths from 0 to 1 are expected, found {list(self.strengths)}.")
        for name in ("n", "corrections", "chunk", "tails"):
            if vars(self)[name] < 1:
                raise RecipeError(f"Option `{name}`: at least 1 is expected, found {vars(self)[name]}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SherlockOptions:
        """Options from a YAML's values.

        Raises:
            RecipeError: naming the option.
        """
        return options_from(cls, values)

    @property
    def places(self) -> tuple[int, ...]:
        """The places to draw from."""
        if self.cuts is not None:
            return self.cuts
        return PRESETS[self.preset].cuts if len(self.tags) == len(TAGS) else tuple(range(1, len(self.tags) + 1))

    @property
    def strengths(self) -> tuple[float, ...]:
        """The lowest and the highest strength of noise."""
        return PRESETS[self.preset].noise if self.noise is None else self.noise

    def draw(self, seed: int, question: str) -> Draw:
        """What a question draws; other questions do not change it."""
        dice = chance(seed, question, "draw")
        cut, noise = dice.choice(self.places), dice.uniform(*self.strengths)
        replaced = cut in PRESETS[self.preset].replaced
        return Draw(cut, noise, replaced, weight_of(cut, noise, len(self.tags)))


@dataclass(frozen=True)
class Draw:
    """What was drawn for a row.

    Attributes:
        cut: place where the response is cut.
        noise: strength of the noise on the picture, from 0 to 1.
        replaced: whether random pixels stand in for the picture.
        weight: of the row; see `weight_of`.
    """

    cut: int
    noise: float
    replaced: bool
    weight: float


def weight_of(cut: int, noise: float, places: int = len(TAGS)) -> float:
    """Omega, a row's weight: 1 / (1/2 + (cut / places)^(1/2 + noise/2)).

    An early cut or strong noise makes it larger, which keeps the update closer to the reference. The paper's beta
    (arXiv 2505.22651, Eq. 8) is a quarter of it.
    """
    return float(1.0 / (0.5 + (cut / places) ** (0.5 + noise / 2)))
