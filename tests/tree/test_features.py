# SPDX-License-Identifier: Apache-2.0
"""Features of a frozen tower are computed once for all passes, and never when they could be others."""

import copy
from contextlib import contextmanager
from types import MethodType

import pytest
import torch
from llamafactory.model.model_utils.checkpointing import _gradient_checkpointing_enable
from peft import LoraConfig, PeftModel, get_peft_model

from llamafactory_mmself.tree.dense import DenseScorer
from llamafactory_mmself.tree.features import FeatureCache, VisionFeatures, frozen_tower, same_tower, tower
from llamafactory_mmself.tree.reference import AdapterOff, FrozenModel


def _alone(yes):
    return yes


@contextmanager
def frozen(model):
    """The tower's weights do not train, the others do."""
    weights = [weight for part in tower(model) for weight in part.parameters()]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield model
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def _convolves(module):
    return isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d | torch.nn.Linear)


@contextmanager
def passes(*models):
    """Counts the passes of vision towers."""
    seen = []
    convolutions = [next(filter(_convolves, tower(model)[0].modules())) for model in models]
    handles = [module.register_forward_hook(lambda *_: seen.append(1)) for module in convolutions]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def gradients(model, scores):
    model.zero_grad()
    sum(role.sums.sum() for role in scores.values()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_policy_and_reference_share_one_pass(lab):
    """Same scores and gradients as apart, for a reference that is a copy with another language model."""
    scorer, batch = DenseScorer(), lab.batch(lab.trees("orm"))
    other = copy.deepcopy(lab.model)
    with torch.no_grad():
        other.get_output_embeddings().weight.mul_(1.1)
    other.requires_grad_(False)
    reference = FrozenModel(scorer, other)
    with frozen(lab.model):
        expected = reference(lab.model, batch), scorer(lab.model, batch)
        wanted = gradients(lab.model, expected[1])
        with passes(lab.model, other) as seen:
            lent = VisionFeatures(_alone).lend(lab.model, batch)
            found = reference(lab.model, lent), scorer(lab.model, lent)
            assert len(seen) == 1
        given = gradients(lab.model, found[1])
    for role in expected[0]:
        assert torch.equal(found[0][role].logp, expected[0][role].logp)
        assert torch.equal(found[1][role].logp, expected[1][role].logp)
    assert given.keys() == wanted.keys()
    assert all(torch.allclose(given[name], wanted[name], atol=1e-12) for name in wanted)


@pytest.mark.parametrize("family", ["qwen2_vl", "mllama"])
def test_a_tower_that_trains_or_differs_is_not_shared(make_lab, family):
    lab = make_lab(family)
    scorer, batch = DenseScorer(), lab.batch(lab.trees("orm"))
    other = copy.deepcopy(lab.model).requires_grad_(False)
    reference = FrozenModel(scorer, other)
    features = VisionFeatures(_alone)

    def count():
        with passes(lab.model, other) as seen, torch.no_grad():
            lent = features.lend(lab.model, batch)
            reference(lab.model, lent), scorer(lab.model, lent)
        return len(seen)

    with frozen(lab.model):
        assert count() == 1
    assert count() == 2  # off at once
    with frozen(lab.model):
        assert count() == 2  # it was training: the copy's tower is another one by now
        features = VisionFeatures(_alone)
        assert count() == 1
        features = VisionFeatures(lambda yes: False)  # another rank found a difference
        assert count() == 2
        with torch.no_grad():
            next(tower(other)[0].parameters()).add_(1e-3)
        features = VisionFeatures(_alone)
        assert count() == 2
    assert not same_tower(lab.model, other)


@pytest.mark.parametrize("where", ["language", "vision"])
def test_adapters_on_the_tower_forbid_sharing(make_lab, where):
    lab = make_lab("qwen2_vl")
    scorer, batch = DenseScorer(), lab.batch(lab.trees("orm"))
    target = r".*language_model.*q_proj" if where == "language" else r".*(q_proj|visual.*qkv)"
    model = get_peft_model(copy.deepcopy(lab.model), LoraConfig(r=2, target_modules=target, init_lora_weights=False))
    assert isinstance(model, PeftModel) and frozen_tower(model.get_base_model()) == (where == "language")
    with passes(model.get_base_model()) as seen:
        lent = VisionFeatures(_alone).lend(model, batch)
        found = AdapterOff(scorer)(model, lent), scorer(model, lent)
    assert len(seen) == (1 if where == "language" else 2)
    with torch.no_grad():
        expected = AdapterOff(scorer)(model, batch), scorer(model, batch)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.allclose(one[role].logp, other[role].logp, atol=1e-12) for role in one)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_gradients_with_checkpointing_are_those_without(make_lab, family, reentrant):
    lab = make_lab(family)
    scorer, batch = DenseScorer(), lab.batch(lab.trees("orm"))
    model = copy.deepcopy(lab.model)
    with frozen(model):
        expected = gradients(model, scorer(model, batch))
        MethodType(_gradient_checkpointing_enable, model)({"use_reentrant": reentrant})
        model.train()
        found = gradients(model, scorer(model, VisionFeatures(_alone).lend(model, batch)))
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-10) for name in expected)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava"])
def test_pictures_are_kept_across_steps(make_lab, family):
    lab = make_lab(family)
    scorer, trees = DenseScorer(), lab.trees("orm")
    batches = [lab.batch(trees[:2]), lab.batch(trees[1:])]
    cache = FeatureCache(2**20)
    features = VisionFeatures(_alone, cache)
    with frozen(lab.model), torch.no_grad():
        expected = [scorer(lab.model, batch) for batch in batches]
        with passes(lab.model) as seen:
            for _ in range(2):
                found = [scorer(lab.model, features.lend(lab.model, batch)) for batch in batches]
        assert len(seen) == len(cache) == 3  # each picture once, in two epochs
    for one, other in zip(found, expected, strict=True):
        assert all(torch.allclose(one[role].logp, other[role].logp, atol=1e-6) for role in one)
    features.lend(lab.model, batches[0])
    assert len(cache) == 0  # the tower trains


def test_another_tower_never_reads_what_is_kept(make_lab):
    lab = make_lab("llava")
    scorer, batch = DenseScorer(), lab.batch(lab.trees("orm"))
    other = copy.deepcopy(lab.model).requires_grad_(False)
    with torch.no_grad():
        next(tower(other)[0].parameters()).add_(0.1)
        reference = FrozenModel(scorer, other)
        expected = reference(lab.model, batch)
        features = VisionFeatures(_alone, FeatureCache(2**20))
        with frozen(lab.model):
            for _ in range(2):
                lent = features.lend(lab.model, batch)
                scorer(lab.model, lent)
                assert all(
                    torch.equal(reference(lab.model, lent)[role].logp, expected[role].logp) for role in expected
                )


def test_the_cache_keeps_to_its_size_and_drops_what_was_used_longest_ago(make_lab):
    lab = make_lab("llava")
    batch = lab.batch(lab.trees("orm"))
    with frozen(lab.model), torch.no_grad():
        all_of_them = FeatureCache(2**20)
        DenseScorer()(lab.model, VisionFeatures(_alone, all_of_them).lend(lab.model, batch))
        first, *_, last = all_of_them._features.items()
        small = FeatureCache(last[1].size)
        with passes(lab.model) as seen:
            for _ in range(2):
                DenseScorer()(lab.model, VisionFeatures(_alone, small).lend(lab.model, batch))
    assert list(small._features) == [last[0]] != [first[0]]
    assert len(seen) == 6
