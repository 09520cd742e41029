# SPDX-License-Identifier: Apache-2.0
"""Trees share what is equal, and crops follow from their seed."""

import pytest
from PIL import Image

from llamafactory_mmself.tree.media import crop, distinct, open_image
from llamafactory_mmself.tree.sample import ROOT, Crop, Media, TreeBuilder, White, cut_spans


def test_equal_segments_are_one_node():
    builder = TreeBuilder("key")
    head = builder.add([1, 2])
    builder.score("cc", [3, 4], head)
    builder.score("same", [3, 4], head, mask=[False, True])
    builder.score("cr", [5], head)
    tree = builder.build()
    assert len(tree.nodes) == 3
    assert tree.roles["cc"].leaf == tree.roles["same"].leaf
    assert tree.roles["cc"].scored == (False, False, True, True)
    assert tree.roles["same"].scored == (False, False, False, True)
    assert [node.ids for node in tree.path(tree.roles["cr"].leaf)] == [(1, 2), (5,)]


def test_an_answer_needs_something_before_it():
    with pytest.raises(ValueError, match="Role cc of sample key has nothing before its answer"):
        TreeBuilder("key").score("cc", [1, 2], ROOT)


def test_the_same_tokens_over_another_picture_are_another_node():
    builder = TreeBuilder("key")
    places = {builder.add([7, 7], ROOT, [Media("image", name)]) for name in ("a.png", "b.png")}
    assert len(places) == 2
    assert builder.add([], 1) == 1


def test_cut_spans():
    assert cut_spans([0, 1, 2, 3, 4, 5], [1, 3, 4, 5]) == [0, 3, 5]
    assert cut_spans([0, 1], []) == [0, 1]


def test_distinct_keeps_the_order():
    media = [Media("image", name) for name in "abac"]
    assert distinct(media) == ([media[0], media[1], media[3]], [0, 1, 0, 2])


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (7, 100)])
@pytest.mark.parametrize("scale", [(0.8, 1.0), (0.01, 0.2), (1.0, 1.0)])
def test_crops_keep_the_size_and_repeat(size, scale):
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    views = [crop(image, Crop(scale, seed)) for seed in (1, 1, 2)]
    assert all(view.size == size for view in views)
    assert views[0].tobytes() == views[1].tobytes()
    if scale[1] < 1:
        assert views[0].tobytes() != views[2].tobytes()


def test_views_of_a_file(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (12, 9), "red").save(path)
    assert open_image(Media("image", str(path))).getpixel((0, 0)) == (255, 0, 0)
    white = open_image(Media("image", str(path), White()))
    assert white.size == (12, 9) and white.getpixel((0, 0)) == (255, 255, 255)
    assert open_image(Media("image", "blank:4x2")).size == (4, 2)


def test_a_picture_that_went_away_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png cannot be read"):
        open_image(Media("image", str(tmp_path / "gone.png")))


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "mllama"])
def test_answers_end_once(make_lab, family):
    """One end of turn, whatever the template; and rows without a picture lose its tokens and nothing else."""
    lab = make_lab(family)
    (tree, *_) = lab.trees("orm")
    eos = lab.tokenizer.eos_token_id
    for role in tree.roles.values():
        answer = tree.nodes[role.leaf].ids
        assert answer.count(eos) == 1

    def text(role):
        return [token for node in tree.path(tree.roles[role].leaf) for token in node.ids]

    with_picture, without = text("cc"), text("cn")
    assert [token for token in with_picture if token not in lab.encoder.media_tokens] == without
    assert len(without) < len(with_picture)


def test_masking_keeps_what_differs():
    from llamafactory_mmself.stages.mdpo.tree import _difference

    masks = _difference([5, 6, 7, 8, 2], [5, 9, 7, 2])
    assert masks == {"chosen": [False, True, False, True, False], "rejected": [False, True, False, False]}
    masks = _difference([3, 3, 4, 2], [3, 4, 4, 2])
    assert masks == {"chosen": [True, False, False, False], "rejected": [False, False, True, False]}
    assert _difference([1, 2], [1, 2, 3])["chosen"] == [True, True]  # nothing of its own: scored as a whole
