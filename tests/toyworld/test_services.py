# SPDX-License-Identifier: Apache-2.0
"""The toy world's eyes, judge, describer, painter and checks."""

import io
from random import Random

import pytest
from PIL import Image

from llamafactory_mmself.generate.negatives import Negative, NegativeMaker
from llamafactory_mmself.generate.service_config import load_services
from llamafactory_mmself.generate.services import CheckItem, DescribeItem, PaintFailure, PaintRequest, ScoreItem
from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.scenes import (
    Question,
    Scene,
    answer,
    caption,
    contradict,
    draw,
    random_scene,
    sentence,
)
from llamafactory_mmself.toyworld.seeing import look
from llamafactory_mmself.toyworld.services import caption_score, imagined


SCENE = Scene.parse("red circle, - / blue square, green circle")


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 3), (3, 2), (3, 3)])
@pytest.mark.parametrize("lit", [True, False])
def test_every_scene_is_seen(rows, columns, lit, tmp_path):
    rng = Random(rows + columns)
    for _ in range(6):
        scene = random_scene(rng, rows, columns)
        path = tmp_path / "scene.png"
        draw(scene, 56, lit).save(path)
        assert look(path) == scene
        assert look(draw(contradict(scene, rng), 56, lit)) != scene


def test_jpeg_files_are_seen_too():
    out = io.BytesIO()
    draw(SCENE, 56, True).save(out, format="JPEG", quality=90)
    assert look(out.getvalue()) == SCENE


def test_other_pictures_are_no_scenes(shapes):
    for picture in (Image.new("RGB", (56, 56), "white"), Image.new("RGB", (400, 400)), shapes[0], shapes[1]):
        with pytest.raises(ToyWorldError):
            look(picture)


def test_captions_are_scored_by_places_and_by_what_is_made_up():
    assert caption_score(caption(SCENE), SCENE) == 10.0
    swapped = Scene.parse("blue square, - / red circle, green circle")
    assert caption_score(caption(swapped), SCENE) == 5.0  # two places wrong, nothing made up
    made_up = Scene.parse("red circle, yellow square / blue square, green circle")
    assert caption_score(caption(made_up), SCENE) == 2.5  # one place wrong, and what is there is made up
    assert caption_score("The top row holds a red circle, then nothing.", SCENE) == 5.0
    assert caption_score("I see shapes.", SCENE) == 0.0
    longer = caption(SCENE).replace("then nothing", "then nothing, then nothing, then nothing")
    assert caption_score(longer, SCENE) == 6.7


@pytest.fixture
def toy():
    with load_services("toy") as services:
        yield services


def test_the_judge_sees_or_takes_the_reference(toy, tmp_path):
    draw(SCENE, 56, True).save(tmp_path / "scene.png")
    images = (str(tmp_path / "scene.png"),)
    items = [
        ScoreItem("a", "?", "anything", "There is a red circle.", images),
        ScoreItem("b", "?", "anything", "There is a yellow circle.", images),
        ScoreItem("c", "?", "anything", "Hm.", images),
        ScoreItem("d", "?", caption(SCENE), caption(SCENE)),
        ScoreItem("e", "?", "A photo of a bus.", "A bus."),
    ]
    assert toy.scorer.score(items) == [10.0, 0.0, 0.0, 10.0, None]
    assert toy.scorer.counts() == {"asked": 5, "cached": 0, "unparsed": 0, "failed": 1}


def test_negative_pictures_fit_the_rejected_caption(toy, tmp_path):
    rng = Random(0)
    pairs, wanted = [], []
    for number in range(8):
        scene = random_scene(rng)
        wanted.append(contradict(scene, rng))
        draw(scene, 56, True).save(tmp_path / f"{number}.png")
        image = (str(tmp_path / f"{number}.png"),)
        pairs.append(DescribeItem(str(number), "?", caption(scene), caption(wanted[-1]), caption(scene), image))
    found = NegativeMaker(toy).make(pairs)
    assert all(isinstance(item, Negative) for item in found)
    assert [look(item.picture.png) for item in found] == wanted
    assert toy.checks.counts() == {"kept": 8}


@pytest.mark.parametrize("kind", ["count", "exists", "relation"])
def test_answers_are_imagined_true(kind):
    rng = Random(kind)
    found = 0
    for _ in range(30):
        scene = random_scene(rng)
        question = {
            "count": Question("count", colour="red"),
            "exists": Question("exists", "red", "circle"),
            "relation": Question("relation", scene.things[0].colour, scene.things[0].shape, "left of"),
        }[kind]
        truth = answer(question, scene)
        lie = {"count": "3", "exists": "no" if truth == "yes" else "yes", "relation": "a yellow square"}[kind]
        if truth is None or truth == lie:
            continue
        other = imagined(sentence(question, truth), sentence(question, lie), scene)
        if other is not None:
            found += 1
            assert answer(question, other) == lie
    assert found >= 5


def test_what_cannot_be_imagined_has_no_description(toy):
    pairs = [
        DescribeItem("same", "?", caption(SCENE), caption(SCENE), caption(SCENE)),
        DescribeItem("garbage", "?", caption(SCENE), "Hm.", caption(SCENE)),
        DescribeItem("elsewhere", "?", "A bus.", "A car.", "A bus."),
    ]
    assert toy.describer.describe(pairs) == [None, None, None]
    assert toy.describer.counts()["failed"] == 3


def test_rows_that_are_not_described_stay_as_they_are():
    other = imagined(caption(SCENE), "The top row holds a red circle, then a blue circle. And more.", SCENE)
    assert other == Scene.parse("red circle, blue circle / blue square, green circle")


def test_the_painter_paints_captions_only(toy):
    good, bad = toy.painter.paint([PaintRequest("a", caption(SCENE), 1), PaintRequest("b", "A bus.", 1)])
    assert look(good.png) == SCENE
    assert isinstance(bad, PaintFailure) and "cannot draw" in bad.reason


def test_the_checks_look(toy):
    good, other = toy.painter.paint(
        [PaintRequest("a", caption(scene), 1) for scene in (SCENE, Scene.parse("red circle, - / -, -"))]
    )
    pair = DescribeItem("p", "?", caption(SCENE), "There is no blue square.", caption(SCENE))
    found = toy.checks.check([CheckItem(pair, "", good), CheckItem(pair, "", other)])
    assert [check.reason for check in found] == ["like the real picture", "the rejected claim is not seen"]
