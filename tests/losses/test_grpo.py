# SPDX-License-Identifier: Apache-2.0
"""GRPO's advantages and loss: the published code's cases, and what the formulas promise."""

import json

import pytest
import torch

from llamafactory_mmself.losses.grpo import group_normalised, grpo_loss, importance_weights
from llamafactory_mmself.losses.logps import token_logps
from tests.losses.yardsticks import IGNORE_INDEX


@pytest.fixture(scope="module")
def golden(shared_golden):
    return json.loads((shared_golden / "ovip.json").read_text())["grpo"]


def near(found, wanted, tolerance=1e-4):
    torch.testing.assert_close(found, torch.as_tensor(wanted), atol=tolerance, rtol=tolerance)


def table(logits, labels):
    """Masked log-probs [1, n, t - 1] of labelled tokens, and the mask."""
    targets = labels[:, 1:]
    mask = targets != IGNORE_INDEX
    return (token_logps(logits[:, :-1], targets.masked_fill(~mask, 0)) * mask).unsqueeze(0), mask.unsqueeze(0)


def published(golden, case, **changes):
    labels = torch.tensor(golden["labels"])
    logits = torch.tensor(golden["policy_logits"], requires_grad=True)
    policy, mask = table(logits, labels)
    reference, _ = table(torch.tensor(golden["reference_logits"]), labels)
    advantages = torch.tensor([golden["advantages"]])
    settings = {"beta": case["beta"], "quirks": "published", **changes}
    return logits, grpo_loss(policy, policy.detach() - 0.7, reference, advantages, mask, **settings)


def test_the_published_loss_and_its_gradient(golden):
    for case in golden["cases"]:
        logits, output = published(golden, case)
        near(output.loss, case["loss"])
        output.loss.backward()
        near(logits.grad, case["grad_policy_logits"])
        total, count = output.metrics["KL_loss"]
        near(total / count, case["KL_loss_metric"])
        assert output.metrics["clip_fraction"][0] == 0


def test_on_policy_both_are_the_same(golden):
    labels, case = torch.tensor(golden["labels"]), golden["cases"][0]
    logits = torch.tensor(golden["policy_logits"], requires_grad=True)
    policy, mask = table(logits, labels)
    reference, _ = table(torch.tensor(golden["reference_logits"]), labels)
    output = grpo_loss(policy, policy.detach(), reference, torch.tensor([golden["advantages"]]), mask, beta=0.1)
    output.loss.backward()
    near(logits.grad, case["grad_policy_logits"])
    total, count = output.metrics["KL_loss"]
    near(total / count, sum(case["per_sequence_kl"]) / 4)


def test_the_published_advantages(golden):
    example = golden["advantage_example"]
    scores = torch.tensor(example["scores_including_ground_truth_10"]).float()
    near(group_normalised(scores, torch.ones(5, dtype=torch.bool)), example["advantages"])


def test_responses_without_a_score_change_nothing():
    kept = torch.tensor([[True, False, True, True]])
    found = group_normalised(torch.tensor([[3.0, float("nan"), 7.0, 5.0]]), kept)
    near(found[kept], group_normalised(torch.tensor([3.0, 7.0, 5.0]), torch.ones(3, dtype=torch.bool)))
    assert found[0, 1] == 0
    assert not group_normalised(torch.full((1, 4), 6.0), kept).any()


def ratios(*values):
    """Log-probs of single tokens so much likelier than before."""
    return torch.tensor([[[value] for value in values]]).log().requires_grad_()


def test_clipping_looks_at_the_old_policy():
    logps, zero = ratios(1.5, 1.5, 0.5, 0.5), torch.zeros(1, 4, 1)
    output = grpo_loss(
        logps, zero, zero, torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.ones(1, 4, 1), beta=0.0, clip_range=0.2
    )
    output.value.backward()
    near(output.value, -(1.2 - 1.5 + 0.5 - 0.8))
    moving = logps.grad[0, :, 0] != 0
    assert moving.tolist() == [False, True, True, False]  # who has gone too far already stays
    assert output.metrics["clip_fraction"][0] == 2


def test_padding_and_missing_responses_count_for_nothing():
    generator = torch.Generator().manual_seed(0)
    policy, old, reference = torch.randn(3, 2, 3, 5, generator=generator).unbind()
    lengths = torch.tensor([[5, 2, 3], [1, 4, 0]])
    mask = torch.arange(5) < lengths.unsqueeze(-1)
    advantages = torch.randn(2, 3, generator=generator)
    whole = grpo_loss(policy, old, reference, advantages, mask, beta=0.1)
    assert whole.weight == 5
    single = 0.0
    for prompt in range(2):
        for place, length in enumerate(lengths[prompt].tolist()):
            if length:
                part = (slice(prompt, prompt + 1), slice(place, place + 1), slice(0, length))
                one = grpo_loss(policy[part], old[part], reference[part], advantages[part[:2]], mask[part], beta=0.1)
                single += one.value
    near(whole.value, single, 1e-6)


def test_weights_of_stale_rollouts():
    old, sampled = torch.tensor([[0.0, -1.0, -3.0]]), torch.tensor([[-3.0, -1.0, 5.0]])
    found = importance_weights(old, sampled, torch.tensor([[1, 1, 0]]), cap=2.0)
    near(found, [[2.0, 1.0, 1.0]])
    logps, zero = ratios(1.0), torch.zeros(1, 1, 1)
    settings = {"beta": 0.0, "weights": torch.full((1, 1, 1), 0.5)}
    near(grpo_loss(logps, zero, zero, torch.tensor([[2.0]]), torch.ones(1, 1, 1), **settings).value, -1.0)


def test_the_image_term():
    zero, ones = torch.zeros(2, 3, 1), torch.ones(2, 3, 1)
    margins = torch.tensor([[2.0, -1.0], [9.0, 9.0]])
    settings = {"beta": 0.1, "image_coef": 0.5, "image_beta": 0.3, "image_margins": margins}
    kept = torch.tensor([True, False])
    output = grpo_loss(zero, zero, zero, torch.zeros(2, 3), ones, image_kept=kept, **settings)
    expected = -(torch.tensor([0.6, -0.3]).sigmoid().log().sum())
    near(output.metrics["image_loss"][0], expected)
    near(output.loss, 0.5 * expected / 2)
    with pytest.raises(ValueError, match="image_margins"):
        grpo_loss(zero, zero, zero, torch.zeros(2, 3), ones, beta=0.1, image_coef=0.5)
