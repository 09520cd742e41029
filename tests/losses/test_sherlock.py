# SPDX-License-Identifier: Apache-2.0
"""The self-correction loss equals the published code's numbers and its formulas."""

import dataclasses
import json
import math

import pytest
import torch

from llamafactory_mmself.losses.sherlock import DPO_ROLES, GROUPS, ROLES, SC_ROLES, sherlock_loss, sherlock_roles
from tests.losses.yardsticks import IGNORE_INDEX, sequence_logps


QUIRKS = ("fixed", "published")
START = 1.7386294361


def table(seed, n=3, grad=False):
    generator = torch.Generator().manual_seed(seed)
    return {
        role: (-30 * torch.rand(n, generator=generator, dtype=torch.float64)).requires_grad_(grad) for role in ROLES
    }


def tensors(values, grad=False):
    return {role: torch.tensor([value], dtype=torch.float64, requires_grad=grad) for role, value in values.items()}


def mean(output, name):
    total, count = output.metrics[name]
    return (total / count).item()


@pytest.fixture
def golden(shared_golden):
    return json.loads((shared_golden / "sherlock.json").read_text())


@pytest.mark.parametrize("quirks", QUIRKS)
def test_published_losses_gradients_and_metrics(golden, quirks):
    tolerance = golden["meta"]["tolerance"]["logp_cases"]
    for case in golden["logp_cases"]:
        policy = tensors(case["policy_logps"], grad=True)
        output = sherlock_loss(
            policy,
            tensors(case["ref_logps"]),
            weights=torch.tensor([case["weight"]], dtype=torch.float64),
            pref_beta=case["pref_beta"],
            refine_beta=case["refine_beta"],
            quirks=quirks,
        )
        output.loss.backward()
        expected = case["expected"]
        assert output.loss.item() == pytest.approx(expected["total"], abs=tolerance)
        for role, gradient in case["expected_grad_total_wrt_policy_logps"].items():
            assert policy[role].grad.item() == pytest.approx(gradient, abs=tolerance), (case["name"], role)
        for role, reward in case["expected_rewards"].items():
            assert mean(output, f"rewards/{role}") == pytest.approx(reward, abs=tolerance)
        for name in ("v_l", "u_l", "v_w", "u_w"):
            assert mean(output, f"margins/{name}") == pytest.approx(expected[name], abs=tolerance)
        for name in ("sc_l", "sc_w", "dpo"):
            assert mean(output, f"losses/{name}") == pytest.approx(expected[name], abs=tolerance)
        assert mean(output, "losses/refine") == pytest.approx(expected["sc_l"] + expected["sc_w"], abs=tolerance)


@pytest.mark.parametrize("quirks", QUIRKS)
def test_published_cases_as_one_batch(golden, quirks):
    """The mean over examples with different weights and betas of one recipe; the published code took one example."""
    cases = [case for case in golden["logp_cases"] if case["refine_beta"] == 0.025]
    assert len(cases) >= 2

    def stack(name):
        return {role: torch.tensor([case[name][role] for case in cases], dtype=torch.float64) for role in ROLES}

    weights = torch.tensor([case["weight"] for case in cases], dtype=torch.float64)
    output = sherlock_loss(
        stack("policy_logps"), stack("ref_logps"), weights=weights, refine_beta=0.025, quirks=quirks
    )
    expected = sum(case["expected"]["total"] for case in cases) / len(cases)
    assert output.loss.item() == pytest.approx(expected, abs=1e-8)
    assert output.weight.item() == len(cases)


@pytest.mark.parametrize("refine_beta", [0.025, 0.25])
def test_start_of_training(refine_beta):
    """Policy equal to reference: the betas and weights do not matter yet."""
    policy = table(0)
    weights = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    output = sherlock_loss(policy, policy, weights=weights, refine_beta=refine_beta)
    assert output.loss.item() == pytest.approx(START, abs=1e-10)
    assert mean(output, "losses/sc_l") == mean(output, "losses/sc_w") == 1
    assert mean(output, "losses/dpo") == pytest.approx(math.log(2), rel=1e-12)


def test_gradients_are_the_formulas():
    policy, reference = table(1, grad=True), table(2)
    weights = torch.tensor([0.7, 1.0, 1.9], dtype=torch.float64)
    b, rb = 0.3, 0.05
    sherlock_loss(policy, reference, weights=weights, pref_beta=b, refine_beta=rb).value.backward()
    h = {role: (policy[role] - reference[role]).detach() for role in ROLES}
    z = weights * b * (h["dpo.w"] - h["dpo.l"])
    dpo = -0.2 * weights * b * torch.sigmoid(-z)
    assert torch.allclose(policy["dpo.w"].grad, dpo, rtol=1e-10)
    assert torch.allclose(policy["dpo.l"].grad, -dpo, rtol=1e-10)
    for group in GROUPS:
        v = h[f"{group}.ww"] - h[f"{group}.ll"]
        u = h[f"{group}.wl"] - h[f"{group}.lw"]
        winner = -1.6 * weights * rb * (1 - weights * rb * (v + u))
        for pair, sign in (("ww", 1), ("wl", 1), ("ll", -1), ("lw", -1)):
            assert torch.allclose(policy[f"{group}.{pair}"].grad, sign * winner, rtol=1e-10)


def test_pairs_beyond_the_target_margin_are_pulled_back():
    """omega * refine_beta * (v + u) = 1 is the minimum: a total margin of 4 nats at the paper's beta."""

    def loss(margin):
        policy = {role: torch.zeros(1, dtype=torch.float64) for role in ROLES}
        policy |= {role: torch.full((1,), margin / 2, dtype=torch.float64) for role in ("sc_l.ww", "sc_l.wl")}
        reference = {role: torch.zeros(1, dtype=torch.float64) for role in ROLES}
        return mean(sherlock_loss(policy, reference, weights=torch.ones(1, dtype=torch.float64)), "losses/sc_l")

    assert loss(4.0) == 0
    assert loss(3.0) == loss(5.0) == pytest.approx(1 / 16)


def test_log_probs_of_suffixes_from_logits():
    """From logits and labels: prefixes and prompts are not scored, and sums are not means."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (len(ROLES), 9), generator=generator)
    for row, masked in enumerate((1, 2, 5, 4, 4, 5, 6, 3, 3, 6)):
        labels[row, :masked] = IGNORE_INDEX
    logits = torch.randn(2, *labels.shape, 7, generator=generator, dtype=torch.float64)

    def likelihood(scores):
        losses = torch.nn.functional.cross_entropy(
            scores[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=IGNORE_INDEX, reduction="none"
        )
        return {role: -row.sum().unsqueeze(0) for role, row in zip(ROLES, losses, strict=True)}

    def ours(scores):
        sums, lengths = sequence_logps(scores, labels)
        return {role: row.unsqueeze(0) for role, row in zip(ROLES, sums, strict=True)}, lengths

    weights = torch.tensor([0.8], dtype=torch.float64)
    (policy, lengths), (reference, _) = ours(logits[0]), ours(logits[1])
    output = sherlock_loss(policy, reference, weights=weights)
    expected = sherlock_loss(likelihood(logits[0]), likelihood(logits[1]), weights=weights)
    assert output.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)
    assert lengths.tolist() == [8, 7, 4, 5, 5, 4, 3, 6, 6, 3]


def test_weights_scale_both_betas_and_nothing_else():
    policy, reference = table(3), table(4)
    ones = torch.ones(3, dtype=torch.float64)
    weighted = sherlock_loss(policy, reference, weights=2 * ones, pref_beta=0.1, refine_beta=0.02)
    scaled = sherlock_loss(policy, reference, weights=ones, pref_beta=0.2, refine_beta=0.04)
    assert weighted.loss.item() == pytest.approx(scaled.loss.item(), rel=1e-12)
    assert mean(weighted, "rewards/sc_l.ww") == pytest.approx(mean(scaled, "rewards/sc_l.ww") / 2)


def test_likelihood_terms_are_not_scaled():
    policy, reference = table(5, grad=True), table(6)
    lengths = {role: torch.full((3,), 5.0 + place, dtype=torch.float64) for place, role in enumerate(ROLES)}
    weights = torch.tensor([0.7, 1.0, 1.9], dtype=torch.float64)
    plain = sherlock_loss(policy, reference, weights=weights)
    output = sherlock_loss(policy, reference, weights=weights, pref_ftx=0.4, lengths=lengths)
    winners = ("dpo.w", "sc_l.ww", "sc_l.wl", "sc_w.ww", "sc_w.wl")
    expected = plain.value - 0.4 * sum((policy[role] / lengths[role]).sum() for role in winners)
    assert output.value.item() == pytest.approx(expected.item(), rel=1e-12)
    tiny = sherlock_loss(policy, reference, weights=weights, pref_ftx=1e-7)
    assert tiny.value.item() == plain.value.item()


def test_published_total_forgets_a_term():
    policy, reference = table(7), table(8)
    weights = torch.ones(3, dtype=torch.float64)
    fixed, published = (sherlock_loss(policy, reference, weights=weights, quirks=quirks) for quirks in QUIRKS)
    assert fixed.loss.item() == published.loss.item() == pytest.approx(mean(fixed, "losses/total"), rel=1e-12)
    expected = 0.2 * mean(fixed, "losses/dpo") + 0.8 * mean(fixed, "losses/sc_l")
    assert mean(published, "losses/total") == pytest.approx(expected, rel=1e-12)


def test_accuracies_count_margins_above_zero():
    reference = {role: torch.zeros(4, dtype=torch.float64) for role in ROLES}
    policy = dict(reference)
    policy["sc_l.ww"] = torch.tensor([1.0, 1.0, 0.0, -1.0], dtype=torch.float64)
    policy["dpo.l"] = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    output = sherlock_loss(policy, reference, weights=torch.ones(4, dtype=torch.float64))
    assert mean(output, "accuracies/v_l") == 0.5
    assert mean(output, "accuracies/u_l") == 0
    assert mean(output, "rewards/accuracies") == 0.75


@pytest.mark.parametrize("settings", [{}, {"sc_coef": 0.0}, {"dpo_coef": 0.0}, {"pref_ftx": 0.2}])
def test_sums_over_parts_are_the_whole(settings):
    """Sums and weights of a ragged split add up to those of the whole: what ranks and accumulation rely on."""
    policy, reference = table(9, n=5), table(10, n=5)
    weights = torch.linspace(0.5, 2, 5, dtype=torch.float64)
    lengths = {role: torch.arange(3.0, 8.0, dtype=torch.float64) for role in ROLES}

    def loss(places):
        def pick(values):
            return {role: row[places] for role, row in values.items()}

        return sherlock_loss(pick(policy), pick(reference), weights=weights[places], lengths=pick(lengths), **settings)

    whole, parts = loss([0, 1, 2, 3, 4]), [loss([0, 1, 2]), loss([3, 4]), loss([])]
    assert sum(part.value for part in parts).item() == pytest.approx(whole.value.item(), rel=1e-12)
    assert sum(part.weight for part in parts).item() == whole.weight.item() == 5
    assert [set(part.metrics) for part in parts] == [set(whole.metrics)] * 3
    for name, (total, count) in whole.metrics.items():
        assert sum(part.metrics[name][0] for part in parts).item() == pytest.approx(total.item(), rel=1e-9, abs=1e-9)
        assert sum(part.metrics[name][1] for part in parts) == count


def test_ablations_need_only_their_own_roles():
    policy, reference = table(11), table(12)
    weights = torch.ones(3, dtype=torch.float64)

    def only(roles):
        return {role: policy[role] for role in roles}, {role: reference[role] for role in roles}

    whole = sherlock_loss(policy, reference, weights=weights)
    dpo = sherlock_loss(*only(DPO_ROLES), weights=weights, sc_coef=0.0)
    correction = sherlock_loss(*only(SC_ROLES), weights=weights, dpo_coef=0.0)
    assert (dpo.loss + correction.loss).item() == pytest.approx(whole.loss.item(), rel=1e-12)
    assert sherlock_roles(0.8, 0.0) == SC_ROLES and sherlock_roles(0.0, 0.2) == DPO_ROLES
    assert sherlock_roles() == ROLES


def test_gradients_stay_finite_far_from_the_reference():
    policy, reference = table(13, grad=True), table(14)
    far = {role: values * 100 for role, values in policy.items()}
    sherlock_loss(far, reference, weights=torch.full((3,), 2.0, dtype=torch.float64)).loss.backward()
    assert all(torch.isfinite(values.grad).all() for values in policy.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sc_coef": 0.0, "dpo_coef": 0.0}, "not both 0"),
        ({"sc_coef": -1.0}, "0 or more"),
        ({"pref_ftx": 0.1}, "needs `lengths`"),
        ({"weights": torch.ones(3, 1, dtype=torch.float64)}, "one value for each sample"),
        ({"pref_ftx": 0.1, "lengths": {"dpo.w": torch.ones(3)}}, "lengths has no values for sc_l.ww"),
    ],
)
def test_bad_arguments_say_what_is_wrong(changes, words):
    settings = {"weights": torch.ones(3, dtype=torch.float64)} | changes
    with pytest.raises(ValueError, match=words):
        sherlock_loss(table(0), table(1), **settings)


def test_missing_roles_are_named():
    policy = {role: values for role, values in table(0).items() if role != "sc_w.lw"}
    with pytest.raises(ValueError, match=r"policy has no values for sc_w\.lw"):
        sherlock_loss(policy, table(1), weights=torch.ones(3, dtype=torch.float64))


@pytest.mark.filterwarnings("default")
def test_published_sequence_layout(golden, tiny_models, tmp_path):
    """The published rows, text by text, from a file with suffixes and with the prompt of the cases."""
    from PIL import Image

    from llamafactory_mmself import _autoload
    from llamafactory_mmself.data.rows import normalise
    from llamafactory_mmself.data.schema import DatasetSchema
    from llamafactory_mmself.prompts import Prompt
    from llamafactory_mmself.stages.sherlock_dpo.arguments import SherlockArguments
    from llamafactory_mmself.stages.sherlock_dpo.encode import SherlockEncoder, encode_sherlock
    from llamafactory_mmself.stages.sherlock_dpo.tree import build_tree

    _autoload.activate()
    from llamafactory_mmself.plugin import lf

    model = str(tiny_models("mllama"))
    settings = {"model_name_or_path": model, "template": "mllama", "output_dir": "unused", "report_to": "none"}
    model_args, data_args, *_ = lf.get_train_args({**settings, "stage": "sherlock_dpo"})
    modules = lf.load_tokenizer(model_args)
    tokenizer = modules["tokenizer"]
    template = lf.load_template(tokenizer, data_args)
    encoder = SherlockEncoder.of(
        lf.row_encoder(template, tokenizer, modules["processor"], 2048),
        Prompt("cases", "1", "FIX[{question}|{response}]"),
    )
    Image.new("RGB", (56, 56)).save(tmp_path / "picture.png")
    schema = DatasetSchema(name="cases", file_name="cases.json", formatting="sharegpt", ranking=True)
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "images": "images"}
    schema = dataclasses.replace(schema, columns=columns | {"prefix": "prefix", "prefix_l": "prefix_l"})
    for case in golden["sequence_layout"]:
        raw = {
            "conversations": [{"from": "human", "value": case["rows"][0]["user"]}],
            "chosen": case["chosen_suffix"],
            "rejected": case["rejected_suffix"],
            "prefix": case["prefix"],
            "prefix_l": case["prefix_l"],
            "images": "picture.png",
        }
        row, faults = normalise(raw, schema, file="", row=1, media_dir=tmp_path, prefix_reading="suffix")
        assert not faults
        (record,), _ = encode_sherlock(row, encoder)
        tree = build_tree(record, SherlockArguments())
        for expected in case["rows"]:
            role = tree.roles[expected["row"]]
            ids = [token for node in tree.path(role.leaf) for token in node.ids]
            first = role.scored.index(True)
            before, after = tokenizer.decode(ids[:first]), tokenizer.decode(ids[first:])
            turns = before.replace("<|image|>", "<image>").split("<|end_header_id|>\n\n")
            assert turns[1].split("<|eot_id|>")[0] == expected["user"]
            assert turns[2] == expected["unscored_assistant_prefix"]
            assert after == expected["scored_target"].replace("<EOT>", "<|eot_id|>")


def test_the_papers_dpo_term_knows_no_weights():
    """The published cases above have weights in both betas, the default; the stage's preset `paper` has not."""
    policy, reference = table(1), table(2)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

    def dpo(weights, **changes):
        output = sherlock_loss(policy, reference, weights=weights, **changes)
        return mean(output, "losses/dpo"), mean(output, "losses/refine")

    plain = dpo(torch.ones_like(weights))
    assert dpo(weights, weigh_dpo=False)[0] == pytest.approx(plain[0])
    assert dpo(weights)[0] != pytest.approx(plain[0])
    assert dpo(weights, weigh_dpo=False)[1] == dpo(weights)[1] != plain[1]
