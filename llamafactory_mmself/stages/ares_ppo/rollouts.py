# SPDX-License-Identifier: Apache-2.0
"""A prompt with its sampled responses, and what is known about their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Response:
    """One sampled response of t tokens.

    Attributes:
        ids: as sampled, end of sequence included.
        text: without special tokens.
        finish_reason: `stop`, or `length` for a cut one.
        sampled_logps: [t], log-probs while sampling; empty if they are not known.
        rewards: token place -> reward; None if there is none, and the response takes no part.
        scores: of its sentences, for the files that people read; () where rewards come from elsewhere.
        reason: why there is no reward.
        logps: [t], of the policy that sampled, as training computes them; empty until annotated.
        ref_logps: [t], of the reference; empty without one.
        values: [t], of the critic; empty without one.
        entropy: mean over tokens of the policy's entropy.
    """

    ids: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length"]
    sampled_logps: tuple[float, ...] = ()
    rewards: Mapping[int, float] | None = None
    scores: tuple[float, ...] = ()
    reason: str = ""
    logps: tuple[float, ...] = ()
    ref_logps: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    entropy: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether it takes part in training."""
        return self.rewards is not None

    def with_rewards(
        self, rewards: Mapping[int, float] | None, scores: tuple[float, ...] = (), reason: str = ""
    ) -> Response:
        """A copy with rewards."""
        return replace(self, rewards=rewards, scores=scores, reason=reason)


@dataclass(frozen=True)
class Rollout:
    """A prompt and its responses.

    Attributes:
        key: the question's id.
        prompt: token ids.
        images: paths of the pictures behind them.
        responses: K of them.
        advantages: for each response, [t]; () until computed.
        returns: for each response, [t]; () without a critic.
    """

    key: str
    prompt: tuple[int, ...]
    images: tuple[str, ...]
    responses: tuple[Response, ...]
    advantages: tuple[tuple[float, ...], ...] = ()
    returns: tuple[tuple[float, ...], ...] = ()

    def to_row(self) -> dict[str, Any]:
        """Plain JSON values; floats come back as they were."""
        row = asdict(self)
        for response in row["responses"]:
            if response["rewards"] is not None:
                response["rewards"] = list(response["rewards"].items())
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Rollout:
        """Reads what `to_row` wrote."""
        responses = tuple(_response(response) for response in row["responses"])
        advantages, returns = (tuple(map(tuple, row[name])) for name in ("advantages", "returns"))
        return cls(row["key"], tuple(row["prompt"]), tuple(row["images"]), responses, advantages, returns)

    def readable(self) -> dict[str, Any]:
        """The line of a file for people: texts, scores, rewards and reasons."""
        return {
            "question": self.key,
            "responses": [
                {
                    "text": item.text,
                    "finish_reason": item.finish_reason,
                    "scores": list(item.scores),
                    "reward": None if item.rewards is None else sum(item.rewards.values()),
                    **({"reason": item.reason} if item.reason else {}),
                }
                for item in self.responses
            ],
        }


def _response(row: Mapping[str, Any]) -> Response:
    tuples = {name: tuple(row[name]) for name in ("ids", "sampled_logps", "scores", "logps", "ref_logps", "values")}
    rewards = None if row["rewards"] is None else {int(place): value for place, value in row["rewards"]}
    return Response(**{**row, **tuples, "rewards": rewards})
