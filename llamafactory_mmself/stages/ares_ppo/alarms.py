# SPDX-License-Identifier: Apache-2.0
"""What a buffer looks like in figures, and what about them should worry its owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...verify.sentences import repeated_share, sentences
from .rollouts import Response, Rollout


#: Shares of a buffer's responses above which something is wrong.
MOST_CUT, MOST_REPEATED, MOST_FAILED = 0.5, 0.3, 0.1
#: Mean length against the first buffer's.
LONGEST, SHORTEST = 2.0, 0.5


def figures(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means over a buffer's responses.

    Returns:
        `reward` and `score` (of the responses that have them), `response_tokens`, `policy_entropy`, `reference_kl`,
        `sampling_gap` (largest difference of a token's log-prob between sampling and training), and the shares `cut`,
        `repeated` (of sentences) and `failed`.
    """
    responses = [response for rollout in rollouts for response in rollout.responses]
    kept = [response for response in responses if response.kept]
    scores = [score for response in kept for score in response.scores]
    tokens = sum(len(response.ids) for response in responses)
    return {
        "reward": _mean([sum((response.rewards or {}).values()) for response in kept]),
        **({"score": _mean(scores)} if scores else {}),
        "response_tokens": tokens / len(responses),
        "policy_entropy": _mean([response.entropy for response in responses]),
        "reference_kl": sum(map(_distance, responses)) / tokens,
        "sampling_gap": max(map(_gap, responses)),
        "cut": _mean([response.finish_reason == "length" for response in responses]),
        "repeated": _mean([repeated_share(sentences(response.text)) for response in responses]),
        "failed": 1 - len(kept) / len(responses),
    }


def alarms(now: Mapping[str, float], first: Mapping[str, float], tolerance: float) -> list[str]:
    """What is wrong with a buffer, in sentences.

    Args:
        now: its figures.
        first: those of the run's first buffer.
        tolerance: how far log-probs of sampling and of training may lie apart.
    """
    length, usual = now["response_tokens"], max(first["response_tokens"], 1.0)
    checks = (
        (now["cut"] > MOST_CUT, f"{now['cut']:.0%} of the responses were cut: raise rollout_max_new_tokens."),
        (now["repeated"] > MOST_REPEATED, f"{now['repeated']:.0%} of the sentences repeat an earlier one."),
        (now["failed"] > MOST_FAILED, f"{now['failed']:.0%} of the responses got no reward and take no part."),
        (length > LONGEST * usual, f"Responses have {length:.0f} tokens, and had {usual:.0f} in the first buffer."),
        (length < SHORTEST * usual, f"Responses have {length:.0f} tokens, and had {usual:.0f} in the first buffer."),
        (
            now["sampling_gap"] > tolerance,
            f"A token's log-prob differs by {now['sampling_gap']:.1e} between sampling and training, more than "
            f"{tolerance:.0e}: the two see different prompts, pictures or positions, or rounding is coarse.",
        ),
    )
    return [text for wrong, text in checks if wrong]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _distance(response: Response) -> float:
    return sum(response.logps) - sum(response.ref_logps) if response.ref_logps else 0.0


def _gap(response: Response) -> float:
    if not response.logps or not response.sampled_logps:
        return 0.0
    return max(abs(one - other) for one, other in zip(response.logps, response.sampled_logps, strict=True))
