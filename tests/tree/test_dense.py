# SPDX-License-Identifier: Apache-2.0
"""The dense engine gives each role the log-probs that the plain model gives its sequence alone."""

import pytest
import torch

from llamafactory_mmself.tree import head
from llamafactory_mmself.tree.dense import DenseScorer
from llamafactory_mmself.tree.media import open_image
from tests.losses.yardsticks import sequence_logps


def alone(lab, tree, role):
    """The sequence of a role by itself: no padding, no sharing, the model's own positions, all logits."""
    path = tree.path(tree.roles[role].leaf)
    ids = [token for node in path for token in node.ids]
    images = [open_image(medium) for node in path for medium in node.media]
    inputs = {}
    if images:
        counts = [len(images)], [0], [0]
        inputs = lab.template.mm_plugin.get_mm_inputs(images, [], [], *counts, [ids], lab.processor)
        inputs = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    input_ids = torch.tensor([ids])
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (input_ids == lab.model.config.image_token_id).long()
    logits = lab.model(input_ids=input_ids, **inputs).logits
    labels = torch.tensor(
        [[token if scored else -100 for token, scored in zip(ids, tree.roles[role].scored, strict=True)]]
    )
    return sequence_logps(logits, labels)[0]


@pytest.mark.parametrize("strategy", ["orm", "svco-ref"])
def test_scores_are_those_of_each_sequence_alone(lab, strategy):
    trees = lab.trees(strategy, "sameBatch")
    with torch.no_grad():
        scores = DenseScorer()(lab.model, lab.batch(trees))
        for role in trees[0].roles:
            for place, tree in enumerate(trees):
                expected = alone(lab, tree, role).item()
                assert scores[role].sums[place].item() == pytest.approx(expected, abs=1e-9), (role, place)


def test_gradients_are_those_of_the_sequences_alone(lab):
    """The vision tower included: one pass for each distinct picture collects the gradients of all its places."""
    trees = lab.trees("orm")
    roles = list(trees[0].roles)
    weights = {role: torch.linspace(0.5, 2.0, len(trees)) * (place + 1) for place, role in enumerate(roles)}

    def gradients(total):
        lab.model.zero_grad()
        total.backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in lab.model.named_parameters()
            if parameter.grad is not None
        }

    scores = DenseScorer()(lab.model, lab.batch(trees))
    found = gradients(sum((weights[role] * scores[role].sums).sum() for role in roles))
    singles = (
        weights[role][place] * alone(lab, tree, role).sum() for role in roles for place, tree in enumerate(trees)
    )
    expected = gradients(sum(singles))
    assert any("vision" in name or "visual" in name for name in expected)
    assert set(expected) <= set(found)
    for name, gradient in expected.items():
        precision = 1e-5 if "vis" in name else 1e-9  # the vision towers rotate their queries and keys in fp32
        assert (found[name] - gradient).norm() <= precision * gradient.norm() + 1e-12, name


def test_each_picture_passes_the_tower_once(lab):
    trees = lab.trees("orm")
    batch = lab.batch(trees)
    distinct = len({medium for tree in trees for node in tree.nodes for medium in node.media})
    assert distinct == 3
    if "image_grid_thw" in batch:
        assert len(batch["image_grid_thw"]) == distinct
    else:
        assert len(batch["pixel_values"]) == distinct


@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_families_without_a_shared_tower_get_their_pictures_row_by_row(make_lab, family):
    from dataclasses import replace

    lab = make_lab(family)
    trees = lab.trees("orm")
    apart = replace(lab.collate, family=replace(lab.collate.family, shares_tower=False))
    batch = apart(trees)
    assert "shared" not in batch
    batch["pixel_values"] = batch["pixel_values"].double()
    with torch.no_grad():
        found, expected = DenseScorer()(lab.model, batch), DenseScorer()(lab.model, lab.batch(trees))
    for role, scores in expected.items():
        assert torch.allclose(scores.sums, found[role].sums, atol=1e-6), role


def test_a_batch_without_pictures_still_runs_the_tower(lab):
    """Otherwise ranks would wait for each other; the filler row changes nothing."""
    from dataclasses import replace

    row = replace(
        lab.rows[0], prompt=(lab.rows[0].prompt[0]._replace(content="Hello"),), images=(), rejected_images=()
    )
    trees = lab.trees("dpo", rows=[row])
    batch = lab.batch(trees)
    assert "pixel_values" in batch and len(batch["input_ids"]) == 3
    with torch.no_grad():
        scores = DenseScorer()(lab.model, batch)
        assert scores["cc"].sums.item() == pytest.approx(alone(lab, trees[0], "cc").item(), abs=1e-9)


def test_a_changed_picture_changes_the_scores(lab):
    """Pictures are looked at: nothing trains silently on text alone."""
    from dataclasses import replace

    row = lab.rows[0]
    other = replace(row, images=row.rejected_images)
    same_size = replace(row, images=(lab.rows[2].rejected_images[0],))
    with torch.no_grad():
        sums = [
            DenseScorer()(lab.model, lab.batch(lab.trees("dpo", rows=[item])))["cc"].sums.item()
            for item in (row, other, same_size)
        ]
    assert len(set(sums)) == 3


def test_filler_samples_change_nothing(lab):
    trees = lab.trees("orm")
    with torch.no_grad():
        plain = DenseScorer()(lab.model, lab.batch(trees[:2]))
        padded = DenseScorer()(lab.model, lab.batch([*trees[:2], trees[0]], [True, True, False]))
    for role, scores in plain.items():
        assert torch.allclose(scores.sums, padded[role].sums[:2], atol=1e-10)


def test_small_head_chunks_change_nothing(make_lab, monkeypatch):
    """The head is computed a few tokens at a time, in forward and backward."""
    lab = make_lab("llava")
    results = []
    for budget in (2**26, 3 * lab.model.config.text_config.vocab_size):
        monkeypatch.setattr(head, "LOGITS_BUDGET", budget)
        lab.model.zero_grad()
        scores = DenseScorer()(lab.model, lab.batch(lab.trees("orm")))
        scores["cc"].sums.sum().backward()
        results.append((scores["cc"].sums.detach(), lab.model.lm_head.weight.grad.clone()))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-10)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-10)


def test_head_and_features_are_restored(lab):
    trees = lab.trees("orm")
    with torch.no_grad():
        before = alone(lab, trees[0], "cc")
        DenseScorer()(lab.model, lab.batch(trees))
        assert torch.equal(before, alone(lab, trees[0], "cc"))
    assert "forward" not in vars(lab.model.get_output_embeddings())


def test_models_that_change_logits_after_the_head_are_refused(make_lab):
    lab = make_lab("llava")

    class Capped(type(lab.model)):
        def forward(self, *args, **kwargs):
            outputs = super().forward(*args, **kwargs)
            outputs.logits = 30 * torch.tanh(outputs.logits / 30)
            return outputs

    original = lab.model.__class__
    lab.model.__class__ = Capped
    try:
        with pytest.raises(RuntimeError, match="not supported"):
            DenseScorer()(lab.model, lab.batch(lab.trees("dpo")))
    finally:
        lab.model.__class__ = original
