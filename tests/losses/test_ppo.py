# SPDX-License-Identifier: Apache-2.0
"""PPO's rewards, advantages and loss: the published code's cases, and what the formulas promise."""

import json

import pytest
import torch

from llamafactory_mmself.losses import ppo
from llamafactory_mmself.losses.logps import token_logps


@pytest.fixture(scope="module")
def golden(shared_golden):
    return json.loads((shared_golden / "ares.json").read_text())


def near(found, wanted):
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-5, rtol=1e-5)


def test_the_published_advantages(golden):
    for case in golden["gae"]["cases"]:
        values, rewards = torch.tensor(case["values"]), torch.tensor(case["rewards"])
        everything = torch.ones_like(values)
        advantages, returns = ppo.gae(rewards, values, everything, gamma=case["gamma"], lam=case["lam"])
        near(ppo.whiten(advantages, unbiased=True) if case["whiten"] else advantages, case["advantages"])
        near(returns, case["returns"])


def test_masked_advantages(golden):
    reference = golden["masked_gae_reference"]
    values, rewards, mask = (torch.tensor(reference[name]) for name in ("values", "rewards", "mask"))
    for case in reference["cases"]:
        advantages, returns = ppo.gae(rewards, values, mask, gamma=case["gamma"], lam=case["lam"])
        near(advantages, case["advantages"])
        near(returns, case["returns"])
        near(ppo.whiten(advantages, mask), case["whitened_population"])
        near(ppo.whiten(advantages, mask, unbiased=True), case["whitened_unbiased"])


def test_padding_changes_no_advantage():
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 3, 5, generator=generator).unbind()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    whole, _ = ppo.gae(rewards, values, mask, gamma=0.9, lam=0.8)
    for row, length in enumerate(mask.sum(-1).tolist()):
        part = (slice(row, row + 1), slice(0, length))
        alone, _ = ppo.gae(rewards[part], values[part], mask[part], gamma=0.9, lam=0.8)
        torch.testing.assert_close(whole[part], alone)
        assert not whole[row, length:].any()


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match="must agree"):
        ppo.gae(torch.zeros(1, 2), torch.zeros(1, 3), torch.ones(1, 2), gamma=1.0, lam=1.0)


def test_published_whitening(golden):
    given = torch.tensor(golden["whiten"]["input"])
    near(ppo.whiten(given, unbiased=True), golden["whiten"]["local_unbiased"])
    near(ppo.whiten(given, unbiased=True) + given.mean(), golden["whiten"]["local_keep_mean"])
    near(ppo.whiten(given), golden["whiten"]["distributed_population"])


def test_the_published_loss(golden):
    for case in golden["ppo_loss"]["cases"]:
        names = ("logprobs", "old_logprobs", "advantages", "values", "returns", "mask")
        given = [torch.tensor(case[name]) for name in names]
        output = ppo.ppo_loss(*given, clip_range=case["clip_range"], value_coef=case["vf_coef"])
        metrics = {name: float(total / count) for name, (total, count) in output.metrics.items()}
        assert float(output.loss) == pytest.approx(case["stats"]["total_loss"], abs=1e-5)
        assert metrics["policy_loss"] == pytest.approx(case["stats"]["policy_loss"], abs=1e-5)
        assert metrics["value_loss"] == pytest.approx(case["stats"]["value_loss"], abs=1e-5)
        assert metrics["clip_fraction"] == pytest.approx(case["stats"]["clipfrac"], abs=1e-5)


def test_log_probs_of_labels(golden):
    case = golden["logprobs_of_labels"]
    near(token_logps(torch.tensor(case["logits"]), torch.tensor(case["labels"])), case["output"])


def test_scores_become_rewards(golden):
    for case in golden["score_to_token_reward"]["cases"]:
        found = ppo.token_rewards(
            torch.tensor(case["kl_rewards"]), case["sentence_end_positions"], case["scores"], neutral=case["neutral"]
        )
        if case["token_rewards"] is None:
            assert found is None
        else:
            near(found, case["token_rewards"])


def test_sentences_that_share_a_token_add_up():
    near(ppo.token_rewards(torch.zeros(3), [1, 1], [1.0, 0.75]), [0.0, 0.75, 0.0])


@pytest.mark.parametrize("score", [float("nan"), 1.01, -0.01])
def test_scores_out_of_range_are_refused(score):
    with pytest.raises(ValueError, match="between 0 and 1"):
        ppo.token_rewards(torch.zeros(3), [1], [score])


def test_the_published_rollout(golden):
    """The T5 decoder's columns: its start token is padding, and one step after the end of sequence is kept."""
    case = golden["rollout"]
    actions, values = torch.tensor(case["actions"]), torch.tensor(case["values_all_columns"])
    logps, refs = (
        token_logps(torch.tensor(case[name])[:, :-1], actions[:, 1:]) for name in ("policy_logits", "ref_logits")
    )
    near(logps, case["token_logprobs_unsliced"])
    tokens = actions[:, :-1] != 0  # column t is a token, which drops the first one's penalty
    rewards = ppo.kl_rewards(logps, refs, tokens, coef=case["kl_coef"])
    for row, wanted in enumerate(case["elements"].values()):
        kept = slice(0, int((actions[row] != 0).sum()) + 1)
        near(logps[row, kept], wanted["logprobs"])
        near(values[row, :-1][kept], wanted["values"])
        near(rewards[row, kept], wanted["rewards"])
    torch.testing.assert_close(ppo.published_kl_mask(torch.ones_like(tokens))[:, 1:], tokens.bool().new_ones(2, 5))


def test_returns_to_go(golden):
    reference = golden["return_to_go_reference"]
    rewards = torch.tensor([reference["rewards"]])
    for case in reference["cases"]:
        found = ppo.returns_to_go(rewards, torch.ones_like(rewards), gamma=case["gamma"])
        near(found, [case["returns"]])


def test_leave_one_out(golden):
    reference = golden["leave_one_out_reference"]
    totals = torch.tensor(reference["response_totals"])
    near(totals - ppo.leave_one_out_mean(totals, torch.ones(4, dtype=torch.bool)), reference["advantages"])


def test_a_dropped_response_is_nobodys_baseline():
    kept = torch.tensor([True, False, True])
    near(ppo.leave_one_out_mean(torch.tensor([1.0, 100.0, 3.0]), kept)[kept], [3.0, 1.0])
    near(ppo.leave_one_out_mean(torch.tensor([1.0, 2.0]), torch.tensor([True, False]))[:1], [1.0])


def test_critic_free_advantages_of_the_first_token():
    rewards = torch.tensor([[[0.5, 0.0, 0.5], [0.0, -0.5, 0.0]]])
    mask = torch.tensor([[[1, 1, 1], [1, 1, 0]]]).bool()
    found = ppo.rloo_advantages(rewards, mask, gamma=1.0)
    near(found, [[[1.5, 1.0, 1.0], [-1.5, -1.5, 0.0]]])


def test_group_advantages_standardise_sentences():
    rewards = torch.tensor([[[0.5, 0.0, 0.5], [0.0, -0.5, 0.0]]])
    ends = torch.tensor([[[1, 0, 1], [0, 1, 0]]]).bool()
    mask = torch.tensor([[[1, 1, 1], [1, 1, 0]]]).bool()
    found = ppo.group_advantages(rewards, ends, mask)
    scores = torch.tensor([0.5, 0.5, -0.5])
    good, _, bad = ((scores - scores.mean()) / scores.std(unbiased=False)).tolist()
    near(found, [[[2 * good, good, good], [bad, bad, 0.0]]])


def test_splitting_a_batch_changes_nothing():
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(4, 5, generator=generator) for _ in range(5)]
    mask = torch.rand(4, 5, generator=generator) > 0.3
    settings = {"clip_range": 0.2, "value_coef": 0.5}
    whole = ppo.ppo_loss(*given, mask, **settings)
    parts = [ppo.ppo_loss(*(t[rows] for t in given), mask[rows], **settings) for rows in ([0], [1, 2, 3])]
    total = sum(part.value for part in parts) / sum(part.weight for part in parts)
    torch.testing.assert_close(whole.loss, total)


def test_entropy_is_a_bonus_without_a_critic():
    logps = torch.full((1, 2), -1.0, requires_grad=True)
    entropy, mask = torch.tensor([[2.0, 4.0]]), torch.ones(1, 2)
    output = ppo.ppo_loss(
        logps, logps.detach(), torch.zeros(1, 2), None, None, mask,
        clip_range=0.2, value_coef=1.0, entropy=entropy, entropy_coef=0.1,
    )  # fmt: skip
    assert output.loss.item() == pytest.approx(-0.3)
    assert set(output.metrics) == {"policy_loss", "clip_fraction", "approx_kl", "ratio_deviation", "entropy"}
