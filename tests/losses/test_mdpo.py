# SPDX-License-Identifier: Apache-2.0
"""The image-side losses equal the published code's numbers and the formulas of the papers."""

import json
import math

import pytest
import torch

from llamafactory_mmself.losses.mdpo import STRATEGIES, mdpo_loss, strategy_roles
from llamafactory_mmself.losses.pairs import margin_loss, reference_free_loss
from tests.losses.yardsticks import sequence_logps


ROLES = ("cc", "cr", "rc", "rr", "cn", "rn")
SETTINGS = (
    *("strategy", "text_only", "beta", "loss_type", "label_smoothing"),
    *("anchor_ratio", "neg_anchor_ratio", "not_half_dpo_loss", "pref_ftx"),
)


def table(seed: int, n: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {role: -50 * torch.rand(n, generator=generator, dtype=torch.float64) for role in ROLES}


def tensors(values: dict[str, list[float]], grad: bool = False) -> dict[str, torch.Tensor]:
    return {role: torch.tensor(row, dtype=torch.float64, requires_grad=grad) for role, row in values.items()}


@pytest.fixture
def golden(shared_golden):
    return json.loads((shared_golden / "ovip.json").read_text())


def rests_on_a_defect(case) -> bool:
    """What `quirks` documents: pref_ftx ignored by the mDPO family; anchor weight 1 in sameBatch but for orm."""
    family = case["strategy"] in ("mdpo", "vtcl", "ori-mdpo")
    switch = case["vtcl_mode"] == "sameBatch" and case["strategy"] != "orm" and case["anchor_ratio"] > 0
    return (family and case["pref_ftx"] > 0) or switch


@pytest.mark.parametrize("quirks", ["fixed", "published"])
def test_published_losses_and_gradients(golden, quirks):
    cases = golden["total_loss_from_logps"]
    checked = 0
    for case in cases["cases"]:
        if quirks == "fixed" and rests_on_a_defect(case):
            continue
        policy = tensors(cases["policy"], grad=True)
        output = mdpo_loss(
            policy,
            tensors(cases["reference"]),
            mode=case["vtcl_mode"],
            chosen_lengths=tensors(cases["chosen_lengths"]),
            quirks=quirks,
            **{name: case[name] for name in SETTINGS},
        )
        output.loss.backward()
        assert output.loss.item() == pytest.approx(case["loss"], rel=1e-6), case
        for role in ROLES:
            gradient = policy[role].grad
            expected = case["grad_policy"].get(role, [0.0, 0.0, 0.0])
            found = [0.0, 0.0, 0.0] if gradient is None else gradient.tolist()
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-8), (case, role)
        checked += 1
    assert checked >= 40


def test_published_metrics(golden):
    cases = golden["total_loss_from_logps"]
    for case in cases["cases"]:
        output = mdpo_loss(
            tensors(cases["policy"]),
            tensors(cases["reference"]),
            mode=case["vtcl_mode"],
            chosen_lengths=tensors(cases["chosen_lengths"]),
            quirks="published",
            **{name: case[name] for name in SETTINGS},
        )
        for name, expected in case["metrics"].items():
            if case["strategy"] == "vtcl" and case["vtcl_mode"] == "sameBatch" and name.endswith("rewards/accuracies"):
                continue  # published: the accuracy of the mean of both directions; ours counts each direction
            if case["text_only"] and name.startswith("CO"):
                continue  # the image side is not part of this loss
            total, count = output.metrics[name]
            assert (total / count).item() == pytest.approx(expected, rel=1e-5, abs=1e-7), (case, name)


def test_the_image_role_is_needed_by_the_image_term_alone():
    policy, reference = table(0), table(1)
    texts = [{role: values for role, values in found.items() if role != "rc"} for found in (policy, reference)]
    with pytest.raises(ValueError, match="needs the policy's log-probs of rc"):
        mdpo_loss(texts[0], reference, strategy="mdpo")
    with pytest.raises(ValueError, match="needs the reference's log-probs of rc"):
        mdpo_loss(policy, texts[1], strategy="mdpo")
    text = mdpo_loss(*texts, strategy="mdpo", text_only=True)
    assert text.loss == mdpo_loss(policy, reference, strategy="dpo").loss
    assert text.metrics.keys() == mdpo_loss(policy, reference, strategy="mdpo", text_only=True).metrics.keys()


def test_published_pairs(golden):
    inputs = tensors(golden["pair"]["inputs"])
    margin = inputs["policy_chosen"] - inputs["policy_rejected"] - inputs["ref_chosen"] + inputs["ref_rejected"]
    for case in golden["pair"]["cases"]:
        losses = margin_loss(
            margin, beta=case["beta"], loss_type=case["loss_type"], label_smoothing=case["label_smoothing"]
        )
        assert losses.tolist() == pytest.approx(case["losses"], rel=1e-6)


def test_published_reference_free(golden):
    for name in ("simpo", "orpo"):
        case = golden["reference_free"][name]
        losses = reference_free_loss(
            torch.tensor(case["chosen_avg"], dtype=torch.float64),
            torch.tensor(case["rejected_avg"], dtype=torch.float64),
            beta=case["beta"],
            loss_type=name,
            simpo_gamma=case.get("gamma", 0.5),
        )
        assert losses.tolist() == pytest.approx(case["losses"], rel=1e-6)


def test_published_sequence_logps(golden):
    case = golden["sequence_logps"]
    logits = torch.tensor(case["logits"], dtype=torch.float64)
    mask = torch.tensor(case["mask"]).bool()
    labels = torch.full(logits.shape[:2], -100)
    labels[:, 1:][mask] = 0
    sums, lengths = sequence_logps(logits, labels)
    assert sums.shape == lengths.shape == (len(case["sum"]),)
    assert torch.allclose(sums / lengths, sums / mask.sum(-1))


def test_ovip_is_three_pairs():
    policy, reference = table(0), table(1)
    delta = {role: policy[role] - reference[role] for role in ROLES}

    def prefer(a, b):
        return -torch.nn.functional.logsigmoid(0.1 * (delta[a] - delta[b]))

    expected = (prefer("cc", "cn") + prefer("cn", "rc") + prefer("cc", "cr")).mean()
    output = mdpo_loss(policy, reference, strategy="orm", not_half_dpo_loss=True)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", ["single", "sameBatch"])
def test_sums_over_parts_are_the_whole(strategy, mode):
    """Sums and weights of a ragged split add up to those of the whole: what ranks and accumulation rely on."""
    policy, reference = table(2, n=5), table(3, n=5)
    lengths = {role: torch.full((5,), 7.0, dtype=torch.float64) for role in ("cc", "rr")}

    def loss(places):
        def pick(values):
            return {role: row[places] for role, row in values.items()}

        settings = {"strategy": strategy, "mode": mode, "anchor_ratio": 0.5 if strategy != "sft" else 0.0}
        return mdpo_loss(pick(policy), pick(reference), chosen_lengths=pick(lengths), pref_ftx=0.1, **settings)

    whole, parts = loss([0, 1, 2, 3, 4]), [loss([0, 1, 2]), loss([3, 4]), loss([])]
    assert sum(part.value for part in parts).item() == pytest.approx(whole.value.item(), rel=1e-12)
    assert sum(part.weight for part in parts).item() == whole.weight.item()
    assert [set(part.metrics) for part in parts] == [set(whole.metrics)] * 3


@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo", "orpo", "simpo"])
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "sft"])
def test_every_pair_loss_has_finite_gradients(strategy, loss_type):
    policy = {role: (values / 60).requires_grad_() for role, values in table(4).items()}
    reference = None if loss_type in ("orpo", "simpo") else {role: values / 60 for role, values in table(5).items()}
    anchor = 0.0 if reference is None else 0.9
    output = mdpo_loss(policy, reference, strategy=strategy, loss_type=loss_type, anchor_ratio=anchor)
    output.loss.backward()
    for role in strategy_roles(strategy):
        assert torch.isfinite(policy[role].grad).all()


def test_pref_ftx_counts_for_the_mdpo_family():
    policy, reference = table(7), table(8)
    lengths = {"cc": torch.tensor([4.0, 5.0, 8.0], dtype=torch.float64)}

    def loss(**settings):
        return mdpo_loss(policy, reference, strategy="mdpo", chosen_lengths=lengths, **settings).loss.item()

    nll = (-policy["cc"] / lengths["cc"]).mean().item()
    assert loss(pref_ftx=0.2) - loss() == pytest.approx(0.2 * nll, rel=1e-9)
    assert loss(pref_ftx=0.2, quirks="published") == loss()


def test_sft_in_both_directions_trains_each_answer_on_its_picture():
    assert strategy_roles("sft", "sameBatch") == ("cc", "rr")
    policy = {role: values.requires_grad_() for role, values in table(9).items()}
    lengths = {role: torch.full((3,), 5.0, dtype=torch.float64) for role in ("cc", "rr")}
    mdpo_loss(policy, None, strategy="sft", mode="sameBatch", chosen_lengths=lengths).loss.backward()
    assert policy["rr"].grad is not None and policy["cr"].grad is None


def test_the_anchor_keeps_its_weight_in_both_directions():
    policy, reference = table(10), table(11)

    def anchor(ratio):
        settings = {"strategy": "svco-textref", "mode": "sameBatch", "anchor_ratio": ratio}
        total, count = mdpo_loss(policy, reference, **settings).metrics["losses/AncPO"]
        return (total / count).item()

    assert anchor(0.5) == pytest.approx(0.5 * anchor(1.0), rel=1e-9)


def test_start_of_training():
    """Policy equal to reference: every sigmoid pair is ln 2."""
    policy = table(6)
    output = mdpo_loss(policy, policy, strategy="orm", not_half_dpo_loss=True)
    assert output.loss.item() == pytest.approx(3 * math.log(2), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "ovip"}, "offline strategies are"),
        ({"strategy": "dpo", "mode": "both"}, "vtcl_mode"),
        ({"strategy": "dpo", "loss_type": "kto"}, "pref_loss"),
        ({"strategy": "dpo", "loss_type": "simpo", "anchor_ratio": 1.0}, "anchor_ratio 0"),
        ({"strategy": "dpo", "pref_ftx": 0.1}, "chosen_lengths"),
        ({"strategy": "dpo", "loss_type": "hinge", "label_smoothing": 0.1}, "sigmoid"),
    ],
)
def test_bad_settings_say_what_is_wrong(settings, words):
    with pytest.raises(ValueError, match=words):
        mdpo_loss(table(0), table(1), **settings)


def test_missing_roles_are_named():
    policy = {role: row for role, row in table(0).items() if role != "cn"}
    with pytest.raises(ValueError, match="policy's log-probs of cn"):
        mdpo_loss(policy, table(1), strategy="orm")
