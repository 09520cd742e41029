# SPDX-License-Identifier: Apache-2.0
"""Sherlock's self-correction loss.

A row has a chosen answer Y^w = P_w + S_w and a rejected one Y^l = P_l + S_l, each a prefix and a suffix. It gives ten
sequences:

    dpo.w, dpo.l        Y^w and Y^l after the question, scored as a whole
    sc_e.xy             after the question that shows Y^e as an example (e = l or w): suffix S_x after prefix P_y;
                        only the suffix is scored

With h = log pi - log ref of a sequence, and omega the weight of the row:

    v_e = h(sc_e.ww) - h(sc_e.ll)        each suffix after its own prefix
    u_e = h(sc_e.wl) - h(sc_e.lw)        each suffix after the other's prefix
    SC_e = (1 - omega refine_beta (v_e + u_e))^2
    DPO = -log sigmoid(omega pref_beta (h(dpo.w) - h(dpo.l)))         in the paper without omega
    L = sc_coef (SC_l + SC_w) + dpo_coef DPO

Omega scales the betas and nothing else. The square has its minimum where omega refine_beta (v + u) = 1; pairs that
are further apart are pulled back. Source: Sherlock, arXiv 2505.22651; its alpha is dpo_coef / sc_coef.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .types import LossOutput


Quirks = Literal["fixed", "published"]
#: Which response the prompt shows as an example: the rejected one, the chosen one.
GROUPS = ("sc_l", "sc_w")
DPO_ROLES = ("dpo.w", "dpo.l")
SC_ROLES = tuple(f"{group}.{pair}" for group in GROUPS for pair in ("ww", "ll", "wl", "lw"))
ROLES = DPO_ROLES + SC_ROLES
FTX_THRESHOLD = 1e-6  # a published rule: smaller coefficients switch the likelihood terms off


def sherlock_roles(sc_coef: float = 0.8, dpo_coef: float = 0.2) -> tuple[str, ...]:
    """The roles that the loss reads, in a fixed order; a term with coefficient 0 needs none."""
    return (DPO_ROLES if dpo_coef else ()) + (SC_ROLES if sc_coef else ())


def sherlock_loss(
    policy: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    *,
    weights: Tensor,
    pref_beta: float = 0.1,
    refine_beta: float = 0.25,
    sc_coef: float = 0.8,
    dpo_coef: float = 0.2,
    weigh_dpo: bool = True,
    pref_ftx: float = 0.0,
    lengths: Mapping[str, Tensor] | None = None,
    quirks: Quirks = "fixed",
) -> LossOutput:
    """Self-correction loss of a batch of samples, of any size.

    Args:
        policy: role (see `ROLES`) -> summed log-probs of the scored tokens, [n].
        reference: the same for the reference.
        weights: omega of each sample, [n]. Keep it in fp32 or better.
        pref_beta: strength of the DPO term.
        refine_beta: strength of the correction terms. The paper has 0.25, the published recipes 0.025.
        sc_coef: weight of the correction terms; with 0 the eight correction roles are not needed.
        dpo_coef: weight of the DPO term; with 0 its two roles are not needed.
        weigh_dpo: whether omega scales `pref_beta`, too, as in the published code and its recorded cases; in the paper
            beta of the DPO term is the same for all rows.
        pref_ftx: weight of the negative mean log-prob per token of dpo.w, sc_e.ww and sc_e.wl. It is scaled neither by
            the coefficients nor by omega. Below 1e-6 it is off.
        lengths: role -> scored tokens [n], for `pref_ftx`.
        quirks: `published` reports `losses/total` as the published trainer does, without SC_w. The loss is the same.

    Returns:
        Sum over samples and their number. Metrics: each term without its coefficient (`losses/sc_l`, `losses/sc_w`,
        their sum `losses/refine`, `losses/dpo`), `losses/total`; v and u in nats (`margins/v_l` ...) and how often
        they are above 0 (`accuracies/v_l` ...); rewards beta * h without omega and log-probs of every role; margin
        and accuracy of the DPO pair (`rewards/margins`, `rewards/accuracies`).

    Raises:
        ValueError: for a missing role or length, a wrong shape, or coefficients without meaning.
    """
    roles = sherlock_roles(sc_coef, dpo_coef)
    _check(roles, policy, reference, weights, sc_coef, dpo_coef, pref_ftx, lengths)
    h = {role: policy[role] - reference[role] for role in roles}
    ftx = pref_ftx if pref_ftx > FTX_THRESHOLD else 0.0

    def nll(*winners: str) -> Tensor:
        """g times the sum of negative mean log-probs per token, [n]."""
        if not ftx or lengths is None:
            return torch.zeros_like(weights)
        return -ftx * torch.stack([policy[role] / lengths[role] for role in winners]).sum(0)

    parts: dict[str, Tensor] = {}  # what the loss adds up
    metrics: dict[str, Tensor] = {}
    if dpo_coef:
        margin = h["dpo.w"] - h["dpo.l"]
        dpo = -F.logsigmoid((weights * pref_beta if weigh_dpo else pref_beta) * margin)
        parts["dpo"] = dpo_coef * dpo + nll("dpo.w")
        metrics["losses/dpo"] = dpo
        metrics["rewards/margins"] = pref_beta * margin
        metrics["rewards/accuracies"] = (margin > 0).to(margin.dtype)
    for group in GROUPS if sc_coef else ():
        v = h[f"{group}.ww"] - h[f"{group}.ll"]
        u = h[f"{group}.wl"] - h[f"{group}.lw"]
        sc = (1 - weights * refine_beta * (v + u)) ** 2
        parts[group] = sc_coef * sc + nll(f"{group}.ww", f"{group}.wl")
        metrics[f"losses/{group}"] = sc
        for name, values in (("v", v), ("u", u)):
            metrics[f"margins/{name}_{group[-1]}"] = values
            metrics[f"accuracies/{name}_{group[-1]}"] = (values > 0).to(values.dtype)
    if sc_coef:
        metrics["losses/refine"] = metrics["losses/sc_l"] + metrics["losses/sc_w"]

    losses = _total(parts)
    reported = {name: part for name, part in parts.items() if name != "sc_w"} if quirks == "published" else parts
    metrics["losses/total"] = _total(reported)
    for role in roles:
        metrics[f"rewards/{role}"] = (pref_beta if role in DPO_ROLES else refine_beta) * h[role]
        metrics[f"logps/{role}"] = policy[role]
    return LossOutput.of(losses, metrics)


def _total(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum(0)


def _check(
    roles: tuple[str, ...],
    policy: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    weights: Tensor,
    sc_coef: float,
    dpo_coef: float,
    pref_ftx: float,
    lengths: Mapping[str, Tensor] | None,
) -> None:
    if sc_coef < 0 or dpo_coef < 0 or not roles:
        raise ValueError(f"sc_coef {sc_coef} and dpo_coef {dpo_coef} are weights: 0 or more, and not both 0.")
    tables = {"policy": (policy, roles), "reference": (reference, roles)}
    if pref_ftx > FTX_THRESHOLD:
        if lengths is None:
            raise ValueError("`pref_ftx` trains on mean log-probs per token and needs `lengths`.")
        winners = tuple(role for role in roles if role == "dpo.w" or role.endswith((".ww", ".wl")))
        tables["lengths"] = (lengths, winners)
    for name, (table, needed) in tables.items():
        if missing := [role for role in needed if role not in table]:
            raise ValueError(f"The {name} has no values for {', '.join(missing)}.")
        for role in needed:
            if table[role].shape != weights.shape:
                raise ValueError(
                    f"The {name}'s {role} has shape {tuple(table[role].shape)} and weights {tuple(weights.shape)}: "
                    "both need one value for each sample."
                )
