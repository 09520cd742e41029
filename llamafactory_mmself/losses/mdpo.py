# SPDX-License-Identifier: Apache-2.0
"""Image-side preference losses: DPO, mDPO, S-VCO and OViP, as one sum of pairs.

Six sequences a sample: `cc` = (y+ | I+), `cr` = (y- | I+), `rc` = (y+ | I-), `rr` = (y- | I-), `cn` = (y+ | no image),
`rn` = (y- | no image). The first letter of the first four is the image, the second the text; for `cn` and `rn` the
letter is the text. With D(a) = log pi(a) - log ref(a):

    P(a, b) = pair loss of D(a) - D(b)      "prefer a over b"
    N(a)    = pair loss of D(a)             "anchor": keep a above its reference

The `single` and `difBatch` modes have one direction (y+ belongs to I+). `sameBatch` adds the mirrored one (y- belongs
to I-), where cc <-> rr, cr <-> rc and cn <-> rn change places, and takes the mean over both.

Sources: mDPO, arXiv 2406.11839; S-VCO, arXiv 2502.13928; OViP, arXiv 2505.15963.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .pairs import LOSS_TYPES, MEAN_LOGPS, REFERENCE_FREE, margin_loss, reference_free_loss
from .types import LossOutput


Strategy = Literal["sft", "dpo", "mdpo", "vtcl", "ori-mdpo", "svco-noref", "svco-ref", "svco-textref", "orm"]
Mode = Literal["single", "difBatch", "sameBatch"]
Quirks = Literal["fixed", "published"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
MODES: tuple[str, ...] = get_args(Mode)
MDPO_FAMILY = frozenset({"mdpo", "vtcl", "ori-mdpo"})
ANCHOR_THRESHOLD = 1e-6  # a published rule: smaller ratios switch the anchor off

_MIRROR = {"cc": "rr", "rr": "cc", "cr": "rc", "rc": "cr", "cn": "rn", "rn": "cn"}


@dataclass(frozen=True)
class Term:
    """One pair of a strategy: its weight, the two roles, and the metric it is logged under."""

    weight: float
    winner: str
    loser: str
    name: str


def strategy_terms(strategy: str, mode: str = "single", *, half: bool = True, text_only: bool = False) -> list[Term]:
    """The pairs of one direction, y+ with I+.

    Args:
        strategy: one of `STRATEGIES` but `sft`, which has no pairs.
        mode: one of `MODES`; only svco-noref has other pairs in `sameBatch`.
        half: whether the OViP loss halves its image part.
        text_only: leave out the image pair of the mDPO family.

    Raises:
        ValueError: for an unknown strategy or mode.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"Unknown strategy `{strategy}`; the offline strategies are {', '.join(STRATEGIES)}.")
    if mode not in MODES:
        raise ValueError(f"Unknown vtcl_mode `{mode}`; use one of {', '.join(MODES)}.")

    text = Term(1.0, "cc", "cr", "loss/text_dpo")
    if strategy == "sft":
        return []
    if strategy == "dpo":
        return [Term(1.0, "cc", "cr", "loss/dpo")]
    if strategy in MDPO_FAMILY:
        return [text] if text_only else [text, Term(1.0, "cc", "rc", "loss/mdpo")]
    if strategy == "svco-noref":
        return [Term(1.0, "cc", "rc" if mode == "sameBatch" else "rr", "loss/dpo")]
    if strategy in ("svco-ref", "svco-textref"):
        return [Term(0.5, "cc", "cn", "loss/cdpo"), Term(0.5, "cn", "rc", "loss/rdpo")]
    image = 0.5 if half else 1.0
    return [Term(image, "cc", "cn", "loss/cdpo"), Term(image, "cn", "rc", "loss/rdpo"), text]


def strategy_roles(strategy: str, mode: str = "single", *, text_only: bool = False) -> tuple[str, ...]:
    """The roles that a strategy reads from the policy, in a fixed order."""
    roles = {"cc"} | {role for term in strategy_terms(strategy, mode) for role in (term.winner, term.loser)}
    if text_only and strategy in MDPO_FAMILY:
        roles.discard("rc")
    if mode == "sameBatch":
        roles |= {_MIRROR[role] for role in roles}
    return tuple(role for role in ("cc", "cr", "rc", "rr", "cn", "rn") if role in roles)


def needs_reference(strategy: str, loss_type: str = "sigmoid") -> bool:
    """Whether a strategy compares with a reference at all."""
    return strategy != "sft" and loss_type not in REFERENCE_FREE


def mdpo_loss(
    policy: Mapping[str, Tensor],
    reference: Mapping[str, Tensor] | None,
    *,
    strategy: str,
    mode: str = "single",
    beta: float = 0.1,
    loss_type: str = "sigmoid",
    label_smoothing: float = 0.0,
    simpo_gamma: float = 0.5,
    anchor_ratio: float = 0.0,
    neg_anchor_ratio: float = 0.0,
    not_half_dpo_loss: bool = False,
    pref_ftx: float = 0.0,
    text_only: bool = False,
    chosen_lengths: Mapping[str, Tensor] | None = None,
    quirks: Quirks = "fixed",
) -> LossOutput:
    """Image-side preference loss of a batch of samples.

    Args:
        policy: role -> summed log-probs [n]; mean log-probs per token for ipo, orpo and simpo.
        reference: the same for the reference; None for orpo, simpo and sft.
        strategy: see `STRATEGIES`.
        mode: see `MODES`.
        beta: strength of the preference, `pref_beta`.
        loss_type: sigmoid, hinge, ipo, orpo or simpo.
        label_smoothing: noise rate of the labels, sigmoid only.
        simpo_gamma: target margin of SimPO.
        anchor_ratio: weight of N(winner); below 1e-6 there are no anchors at all.
        neg_anchor_ratio: weight of -N(loser), unbounded below as published; read only when the anchor is on.
        not_half_dpo_loss: OViP's image part counts in full instead of half.
        pref_ftx: weight of the negative mean log-prob per token of the winner.
        text_only: leave out the image term of the mDPO family.
        chosen_lengths: role -> scored tokens [n] for `cc` (and `rr` in sameBatch); needed for `pref_ftx` and sft.
        quirks: `published` repeats three published defects: `pref_ftx` is ignored by the mDPO family, the anchor's
            weight is 1 in sameBatch for vtcl and svco, and sameBatch sft trains on `cr` instead of `rr`.

    Returns:
        Sum over samples and their number; metrics for each pair loss, reward, margin and accuracy.

    Raises:
        ValueError: for an unknown name, a missing role, reference or length, or a combination without meaning.
    """
    _check_roles({"policy": policy, "reference": reference}, strategy, mode, text_only)
    _check(reference, strategy, loss_type, label_smoothing, anchor_ratio, pref_ftx, chosen_lengths)
    published = quirks == "published"
    terms = strategy_terms(strategy, mode, half=not not_half_dpo_loss, text_only=text_only)
    batch = _Batch(policy, reference, beta, loss_type, label_smoothing, simpo_gamma)
    directions = [_identity, _mirror] if mode == "sameBatch" else [_identity]
    if strategy == "sft":
        swap = [_identity, lambda role: "cr"] if published and mode == "sameBatch" else directions
        losses = _mean([_nll(batch, turn("cc"), chosen_lengths) for turn in swap])
        return LossOutput.of(losses, {"logps/chosen": batch.policy["cc"]})

    parts: dict[str, Tensor] = {}
    for term in terms:
        pair = _mean([batch.pair(turn(term.winner), turn(term.loser), sft=term is terms[0]) for turn in directions])
        parts[term.name] = pair
    losses = sum((term.weight * parts[term.name] for term in terms), torch.zeros_like(batch.policy["cc"]))

    if strategy in ("svco-ref", "svco-textref"):
        parts["loss/dpo"] = losses

    if anchor_ratio >= ANCHOR_THRESHOLD:
        switch = published and mode == "sameBatch" and strategy != "orm"
        anchor = _anchor(batch, strategy, mode, directions, 1.0 if switch else anchor_ratio, neg_anchor_ratio, switch)
        parts["losses/AncPO"] = anchor
        losses = losses + anchor
    if pref_ftx > 0 and not (published and strategy in MDPO_FAMILY):
        losses = losses + pref_ftx * _mean([_nll(batch, turn("cc"), chosen_lengths) for turn in directions])

    return LossOutput.of(losses, {**parts, **_preference_metrics(batch, strategy, mode, directions, terms)})


@dataclass(frozen=True)
class _Batch:
    policy: Mapping[str, Tensor]
    reference: Mapping[str, Tensor] | None
    beta: float
    loss_type: str
    label_smoothing: float
    simpo_gamma: float

    def delta(self, role: str) -> Tensor:
        if self.reference is None:
            return self.policy[role]
        return self.policy[role] - self.reference[role]

    def reward(self, role: str) -> Tensor:
        return self.beta * self.delta(role).detach()

    def pair(self, winner: str, loser: str, *, sft: bool) -> Tensor:
        if self.loss_type in REFERENCE_FREE:
            return reference_free_loss(
                self.policy[winner],
                self.policy[loser],
                beta=self.beta,
                loss_type=self.loss_type,
                simpo_gamma=self.simpo_gamma,
                sft=sft,
            )
        return self.margin(self.delta(winner) - self.delta(loser))

    def margin(self, margin: Tensor) -> Tensor:
        return margin_loss(margin, beta=self.beta, loss_type=self.loss_type, label_smoothing=self.label_smoothing)


def _identity(role: str) -> str:
    return role


def _mirror(role: str) -> str:
    return _MIRROR[role]


def _mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).mean(0)


def _nll(batch: _Batch, role: str, lengths: Mapping[str, Tensor] | None) -> Tensor:
    """Negative mean log-prob per token, [n]."""
    if batch.loss_type in MEAN_LOGPS:
        return -batch.policy[role]
    assert lengths is not None  # checked
    return -batch.policy[role] / lengths["rr" if role in ("rr", "cr") else "cc"]


def _anchor(
    batch: _Batch,
    strategy: str,
    mode: str,
    directions: Sequence[Callable[[str], str]],
    positive: float,
    negative: float,
    switch: bool,
) -> Tensor:
    """r * N(winners) - q * N(losers), [n]. In sameBatch S-VCO also anchors the sequence without image."""
    svco = strategy in ("svco-ref", "svco-textref")
    winners = ["cc", "cn"] if svco and mode == "sameBatch" else ["cc"]
    anchor = positive * _mean([batch.margin(batch.delta(turn(role))) for turn in directions for role in winners])
    if negative > 0 and not svco and not switch:
        loser = "rr" if strategy == "svco-noref" and mode != "sameBatch" else "cr"
        anchor = anchor - negative * _mean([batch.margin(batch.delta(turn(loser))) for turn in directions])
    return anchor


def _preference_metrics(
    batch: _Batch, strategy: str, mode: str, directions: Sequence[Callable[[str], str]], terms: list[Term]
) -> dict[str, Tensor]:
    """Rewards beta * D, their margins and accuracies; each value [n * directions]."""

    def reward(role: str) -> Tensor:
        return torch.cat([batch.reward(turn(role)) for turn in directions])

    def logp(role: str) -> Tensor:
        return torch.cat([batch.policy[turn(role)].detach() for turn in directions])

    roles = strategy_roles(strategy, mode)
    loser = "cr" if "cr" in roles and strategy not in ("svco-ref", "svco-textref") else terms[-1].loser
    chosen, rejected = reward("cc"), reward(loser)
    metrics = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
        "rewards/margins": chosen - rejected,
        "logps/chosen": logp("cc"),
        "logps/rejected": logp(loser),
        "logps/accuracies": (logp("cc") > logp(loser)).to(chosen.dtype),
    }
    if "cn" in batch.policy and any("cn" in (term.winner, term.loser) for term in terms):
        metrics["rewards/noImage"] = reward("cn")
    if strategy == "orm":
        metrics["rewards/neg_img"] = reward("rc")
    compared = any(term.name == "loss/mdpo" for term in terms)
    if compared:
        image = reward("rc")
        metrics["COrewards/chosen"] = chosen
        metrics["COrewards/rejected"] = image
        metrics["COrewards/accuracies"] = (chosen > image).to(chosen.dtype)
        metrics["COrewards/margins"] = chosen - image
    if strategy == "orm" or compared:
        metrics["rewards/image_margins"] = chosen - reward("rc")
        metrics["rewards/image_accuracies"] = (chosen > reward("rc")).to(chosen.dtype)
    return metrics


def _check_roles(tables: Mapping[str, Mapping[str, Tensor] | None], strategy: str, mode: str, text_only: bool) -> None:
    roles = strategy_roles(strategy, mode, text_only=text_only)
    for name, table in tables.items():
        missing = [role for role in roles if table is not None and role not in table]
        if missing:
            raise ValueError(f"Strategy `{strategy}` ({mode}) needs the {name}'s log-probs of {', '.join(missing)}.")


def _check(
    reference: Mapping[str, Tensor] | None,
    strategy: str,
    loss_type: str,
    label_smoothing: float,
    anchor_ratio: float,
    pref_ftx: float,
    lengths: Mapping[str, Tensor] | None,
) -> None:
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"Unknown pref_loss `{loss_type}`; use one of {', '.join(LOSS_TYPES)}.")
    if label_smoothing and loss_type != "sigmoid":
        raise ValueError(f"Label smoothing belongs to the sigmoid loss, not to `{loss_type}`.")
    if needs_reference(strategy, loss_type) and reference is None:
        raise ValueError(f"pref_loss `{loss_type}` compares with a reference, and none was given.")
    if loss_type in REFERENCE_FREE and anchor_ratio >= ANCHOR_THRESHOLD:
        raise ValueError(f"An anchor compares with the reference, which `{loss_type}` does not have: anchor_ratio 0.")
    if (pref_ftx > 0 or strategy == "sft") and lengths is None and loss_type not in MEAN_LOGPS:
        raise ValueError("`chosen_lengths` is needed for `pref_ftx` and for the sft strategy.")
