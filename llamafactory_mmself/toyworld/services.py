# SPDX-License-Identifier: Apache-2.0
"""The toy world's judge, describer, painter and checks: what OViP asks services for, exact and at once.

`load_services("toy")` takes these. They see pictures, or take a caption that is the reference for the scene; items
from elsewhere have no score, no description, no picture.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random

from ..generate.services import (
    HIGHEST,
    CheckItem,
    DescribeItem,
    NegativeCheck,
    PaintFailure,
    PaintRequest,
    Picture,
    ScoreItem,
)
from .errors import ToyWorldError
from .language import hallucinated, paint, parse_caption, rows_of, sentences
from .scenes import COLOURS, ROW_NAMES, SHAPES, Scene, Thing, caption
from .seeing import look


_CELLS: tuple[Thing | None, ...] = (None, *(Thing(colour, shape) for colour in COLOURS for shape in SHAPES))


def judge() -> ExactJudge:
    """The judge, for `engine: toy`."""
    return ExactJudge()


def describer() -> ExactDescriber:
    """The describer."""
    return ExactDescriber()


def painter(size: int = 56) -> ToyPainter:
    """The painter.

    Args:
        size: a picture's sides in pixels.
    """
    return ToyPainter(size)


def checks() -> ExactChecks:
    """The checks."""
    return ExactChecks()


def caption_score(text: str, scene: Scene) -> float:
    """How good a caption is, from 0 to 10, rounded to one decimal.

    Each place that it describes rightly counts for it, each thing that it names and that is nowhere in the scene twice
    against it, out of all places; a caption with more places than the scene is measured by its own number.
    """
    right = claimed = 0
    for name, cells in rows_of(text):
        names = ROW_NAMES[scene.rows]
        there = _row(scene, names.index(name)) if name in names else ()
        right += sum(one == other for one, other in zip(cells, there, strict=False))
        claimed += len(cells)
    made_up = len(hallucinated(text, scene).absent)
    share = (right - 2 * made_up) / max(claimed, len(scene.cells))
    return round(HIGHEST * min(max(share, 0.0), 1.0), 1)


def answer_score(text: str, scene: Scene) -> float:
    """How good an answer is: `HIGHEST` if all its sentences are true and one at least says something, else 0."""
    said = sentences(text, scene)
    good = bool(said) and all(part.form is not None and part.true is not False for part in said)
    return HIGHEST if good and any(part.true for part in said) else 0.0


class ExactJudge:
    """Scores captions and answers by the scene; see `generate.services.ResponseScorer`."""

    policy = "toy judge 2"

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def score(self, items: Sequence[ScoreItem]) -> list[float | None]:
        """See `ResponseScorer.score`."""
        return [self._score(item) for item in items]

    def counts(self) -> Mapping[str, int]:
        """See `ResponseScorer.counts`."""
        return {name: self._counts[name] for name in ("asked", "cached", "unparsed", "failed")}

    def _score(self, item: ScoreItem) -> float | None:
        scene = scene_shown(item.images, item.reference)
        self._counts["asked"] += 1
        self._counts["failed"] += scene is None
        return None if scene is None else response_score(item.response, item.reference, scene)


def response_score(response: str, reference: str, scene: Scene) -> float:
    """The judge's score: of a caption where the reference is one, else of an answer."""
    return caption_score(response, scene) if rows_of(reference) else answer_score(response, scene)


class ExactDescriber:
    """Captions a scene for which the rejected response is right; see `generate.services.Describer`.

    Rows that a rejected caption describes are taken from it, others from the real scene. For an answer the real scene
    is changed in as few places as it takes.
    """

    policy = "toy describer 1"

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def describe(self, items: Sequence[DescribeItem]) -> list[str | None]:
        """See `Describer.describe`."""
        return [self._describe(item) for item in items]

    def counts(self) -> Mapping[str, int]:
        """See `Describer.counts`."""
        return {name: self._counts[name] for name in ("asked", "cached", "unparsed", "failed")}

    def _describe(self, item: DescribeItem) -> str | None:
        real = scene_shown(item.images, item.reference, item.chosen)
        found = None if real is None else imagined(item.chosen, item.rejected, real)
        self._counts["asked"] += 1
        self._counts["failed"] += found is None
        return None if found is None else caption(found)


class ToyPainter:
    """Draws captions; see `generate.services.Painter`. A caption has one picture, whatever the seed.

    Args:
        size: a picture's sides in pixels.
    """

    def __init__(self, size: int = 56) -> None:
        if not isinstance(size, int) or not 28 <= size <= 1024:
            raise ToyWorldError(f"A picture of the toy world has sides of 28 to 1024 pixels, not {size!r}.")
        self._size = size
        self._counts: Counter[str] = Counter()
        self.policy = f"toy painter 1, {size}"

    def paint(self, requests: Sequence[PaintRequest]) -> list[Picture | PaintFailure]:
        """See `Painter.paint`."""
        return [self._paint(request) for request in requests]

    def counts(self) -> Mapping[str, int]:
        """See `Painter.counts`."""
        return {name: self._counts[name] for name in ("asked", "cached", "failed")}

    def _paint(self, request: PaintRequest) -> Picture | PaintFailure:
        self._counts["asked"] += 1
        try:
            picture = paint(request.prompt, self._size)
        except ToyWorldError as error:
            self._counts["failed"] += 1
            return PaintFailure(str(error))
        out = io.BytesIO()
        picture.save(out, format="PNG")
        return Picture(out.getvalue())


class ExactChecks:
    """Looks at painted scenes; see `generate.services.PictureChecks`.

    A picture is kept if its scene differs from the real one and the rejected response is better about it than the
    chosen one.
    """

    policy = "toy checks 1"

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def check(self, items: Sequence[CheckItem]) -> list[NegativeCheck]:
        """See `PictureChecks.check`."""
        found = [_checked(item) for item in items]
        self._counts.update("kept" if check.kept else check.reason for check in found)
        return found

    def counts(self) -> Mapping[str, int]:
        """See `PictureChecks.counts`."""
        return {"kept": 0, **self._counts}


def scene_shown(images: Sequence[str], *captions: str) -> Scene | None:
    """The scene in the first picture, or that of the first text that is a caption; None for things from elsewhere."""
    for image in images[:1]:
        try:
            return look(image)
        except (ToyWorldError, OSError):
            pass
    for text in captions:
        try:
            return parse_caption(text)
        except ToyWorldError:
            pass
    return None


def imagined(chosen: str, rejected: str, real: Scene) -> Scene | None:
    """A scene near the real one about which the rejected response is right and the chosen one is not; None if none is.

    Args:
        chosen: right about the real scene.
        rejected: wrong about it.
        real: the real scene.
    """
    if rows := rows_of(rejected):
        cells = list(real.cells)
        for name, found in rows:
            if name in ROW_NAMES[real.rows] and len(found) == real.columns:
                start = ROW_NAMES[real.rows].index(name) * real.columns
                cells[start : start + real.columns] = found
        scene = replace(real, cells=tuple(cells))
        return scene if scene != real and scene.things else None
    for scene in _near(real):
        if answer_score(rejected, scene) > answer_score(chosen, scene):
            return scene
    return None


def _near(scene: Scene) -> Iterator[Scene]:
    """Scenes with one place changed, then some with two, in an order drawn from the scene itself."""
    rng = Random(str(scene))
    ones = list(_changed(scene))
    rng.shuffle(ones)
    yield from ones
    for one in ones:
        yield from rng.sample(list(_changed(one)), 12)


def _changed(scene: Scene) -> Iterator[Scene]:
    for place, old in enumerate(scene.cells):
        for new in _CELLS:
            if new != old:
                cells = (*scene.cells[:place], new, *scene.cells[place + 1 :])
                if any(cells):
                    yield replace(scene, cells=cells)


def _checked(item: CheckItem) -> NegativeCheck:
    pair = item.pair
    try:
        painted = look(item.picture.png)
    except (ToyWorldError, OSError):
        return NegativeCheck(False, "no scene of the toy world")
    real = scene_shown(pair.images, pair.reference, pair.chosen)
    if painted == real:
        return NegativeCheck(False, "like the real picture")
    reference = pair.rejected if rows_of(pair.rejected) else pair.reference
    better = response_score(pair.rejected, reference, painted) - response_score(pair.chosen, reference, painted)
    figures = {"claim_seen": float(better > 0)}
    return NegativeCheck(better > 0, "" if better > 0 else "the rejected claim is not seen", figures)


def _row(scene: Scene, number: int) -> tuple[Thing | None, ...]:
    return scene.cells[number * scene.columns : (number + 1) * scene.columns]
