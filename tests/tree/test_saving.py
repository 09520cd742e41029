# SPDX-License-Identifier: Apache-2.0
"""Which batches are packed."""

import pytest

from llamafactory_mmself.tree.attention import FLEX, SDPA
from llamafactory_mmself.tree.packed import PackedCollator
from llamafactory_mmself.tree.sample import Media, TreeBuilder
from llamafactory_mmself.tree.saving import CostModel, Saving, ThriftyCollator, Work


def group(prompt, answer, count):
    """A prompt with several answers."""
    builder = TreeBuilder("group")
    root = builder.add([1] * prompt)
    for number in range(count):
        builder.score(f"sample.{number}", [10 + number] * answer, root)
    return builder.build()


def test_counts_of_a_group():
    saving = CostModel(pair=0.0, skips=False).saving([group(prompt=80, answer=16, count=4)])
    assert saving.packed == Work(80 + 4 * 16, (80 + 4 * 16) ** 2)
    assert saving.dense == Work(4 * 96, 4 * 96**2)
    skipping = CostModel(pair=0.0, skips=True).saving([group(prompt=80, answer=16, count=4)])
    triangle = 80 * 81 // 2 + 4 * (16 * 80 + 16 * 17 // 2)
    assert skipping.packed == Work(80 + 4 * 16, triangle)
    assert skipping.dense == Work(4 * 96, 4 * 96 * 97 // 2)


def test_pictures_are_counted_as_rows_show_them():
    builder = TreeBuilder("row")
    root = builder.add([1, 2], media=[Media("image", "a.png")])
    builder.score("w", [3], root)
    builder.score("l", [4], root)
    saving = CostModel(0.0, False).saving([builder.build()])
    assert (saving.shown, saving.distinct) == (2, 1)
    assert saving + saving == Saving(packed=Work(16, 128), dense=Work(32, 256), shown=4, distinct=2)


@pytest.mark.parametrize(
    ("prompt", "answer", "count", "pair", "packed"),
    [
        (400, 50, 2, 1e-4, True),
        (50, 400, 2, 1e-3, False),  # the answers' attention would be over twice the row
        (50, 400, 2, 0.0, True),
        (8, 400, 2, 0.0, False),  # next to nothing is shared
        (300, 300, 8, 1e-4, True),
        (300, 300, 8, 1e-2, False),
    ],
)
def test_answers_much_longer_than_their_prompt_stay_dense(prompt, answer, count, pair, packed):
    cost = CostModel(pair, skips=False)
    assert cost.gains(cost.saving([group(prompt, answer, count)])) is packed


def test_skipping_hidden_blocks_makes_long_answers_worth_packing(make_lab):
    model = make_lab("qwen2_vl").model
    tree = group(prompt=300, answer=300, count=8)
    dense, skipping = (CostModel.of(model, attention) for attention in (SDPA, FLEX))
    assert dense.pair == skipping.pair > 0
    assert skipping.gains(skipping.saving([tree])) and not dense.gains(dense.saving([tree]))


def test_each_batch_is_laid_out_by_its_own_gain(make_lab):
    lab = make_lab("llava")
    packed = PackedCollator(lab.collate)
    thrifty = ThriftyCollator(packed, CostModel(1e-3, skips=False))
    assert "subtree_ends" in thrifty([group(400, 50, 2)])
    assert "subtree_ends" not in thrifty([group(50, 400, 2)])
    assert "subtree_ends" in ThriftyCollator(packed, None)([group(50, 400, 2)])


def test_videos_stay_dense_and_are_refused_where_all_is_packed(make_lab, monkeypatch):
    lab = make_lab("llava")
    builder = TreeBuilder("clip7")
    builder.score("w", [3], builder.add([1, 2], media=[Media("video", "a.mp4")]))
    tree = builder.build()
    with pytest.raises(ValueError, match="sample clip7 shows a video"):
        ThriftyCollator(PackedCollator(lab.collate), None)([tree])
    monkeypatch.setattr(type(lab.collate), "__call__", lambda self, trees, valid: "dense")
    assert ThriftyCollator(PackedCollator(lab.collate), CostModel(0.0, False))([tree]) == "dense"
