# SPDX-License-Identifier: Apache-2.0
"""Arguments of stage `ares_ppo`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..base import TreeArguments


@dataclass
class AresPPOArguments(TreeArguments):
    """Arguments of stage `ares_ppo`. The passes over a buffer are LLaMA-Factory's own `ppo_epochs`.

    A row of a batch is a prompt with all of its samples: `per_device_train_batch_size` counts prompts.
    """

    rollout_prompt: str = field(
        default="ares_rationale",
        metadata={"help": "Prompt that rationales are asked with: a file, or ares_rationale, r3v_cot, ..."},
    )
    rollout_n: int = field(default=4, metadata={"help": "Samples for each prompt (published: k_actions)."})
    rollout_prompts: int = field(
        default=256,
        metadata={
            "help": "Prompts of a buffer: they are sampled, scored and then trained on for `ppo_epochs` passes. "
            "0: the whole data set, as published."
        },
    )
    rollout_batch_size: int = field(default=16, metadata={"help": "Prompts that a rank samples together."})
    rollout_max_new_tokens: int = field(default=512, metadata={"help": "Where a sample is cut."})
    rollout_temperature: float = field(default=1.0, metadata={"help": "Temperature of sampling."})
    rollout_top_p: float = field(default=1.0, metadata={"help": "Nucleus of sampling; 1 is off."})
    rollout_top_k: int = field(
        default=0,
        metadata={"help": "Likeliest tokens to sample from; 0 is off. Log-probs are of the whole distribution."},
    )
    rollout_samples: str | None = field(
        default=None,
        metadata={
            "help": "Samples of `mmself sample` with token ids, to be used instead of sampling: `rollout_n` for each "
            "question."
        },
    )
    reward: str = field(
        default="teacher",
        metadata={
            "help": "teacher: a score for each sentence. outcome: 1 for a right answer, at the last token. "
            "module:function: your own, from answers to (character, reward) pairs."
        },
    )
    teacher: str | None = field(
        default=None,
        metadata={
            "help": "Who scores: a YAML file of a remote teacher, a .jsonl file of ready-made scores, or "
            "module:function."
        },
    )
    neutral_score: float = field(default=0.5, metadata={"help": "Score of a sentence that is worth nothing."})
    sentence_reward: Literal["sum", "mean"] = field(
        default="sum",
        metadata={"help": "mean: rewards are divided by the number of sentences, so that longer is not better."},
    )
    score_answer: bool = field(
        default=False, metadata={"help": "Let the teacher score the announced answer as a sentence, too."}
    )
    cut_responses: Literal["keep", "drop"] = field(
        default="keep", metadata={"help": "Samples that reach rollout_max_new_tokens: keep them, or drop them."}
    )
    cut_reward: float = field(default=0.0, metadata={"help": "Reward at the last token of a cut sample."})
    outcome_coef: float = field(
        default=0.0, metadata={"help": "With reward teacher: what a right answer adds at the last token."}
    )
    verifier: str = field(default="letters", metadata={"help": "Profile that checks answers, for outcome rewards."})
    kl_coef: float = field(
        default=1e-4,
        metadata={"help": "Constant weight of the penalty for leaving the reference (published: init_kl_coef)."},
    )
    advantage: Literal["gae", "rloo", "group"] = field(
        default="gae",
        metadata={
            "help": "gae: with a critic. rloo: return to go minus the mean return of the prompt's other samples. "
            "group: sentence rewards of a prompt's samples standardised together."
        },
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount."})
    gae_lambda: float = field(default=0.95, metadata={"help": "Lambda of GAE."})
    whiten_advantages: bool | None = field(
        default=None,
        metadata={"help": "Standardise advantages over the buffer's tokens. Default: with advantage gae."},
    )
    clip_range: float = field(default=0.2, metadata={"help": "Epsilon of the clipped loss."})
    value_coef: float = field(default=1.0, metadata={"help": "Weight of the critic's error (published: vf_coef)."})
    critic: Literal["shared", "head", "adapter"] = field(
        default="shared",
        metadata={
            "help": "shared: the critic's error trains the policy's trunk, too. head: it trains its head only. "
            "adapter: the critic has a LoRA adapter of its own, and is fitted to each buffer's returns after the "
            "policy's passes over it; it takes a forward of its own and shares nothing that learns."
        },
    )
    critic_epochs: int = field(
        default=1, metadata={"help": "With critic adapter: passes over each buffer that fit the critic."}
    )
    critic_lr: float = field(
        default=1e-4, metadata={"help": "With critic adapter: its learning rate, in the warm-up, too."}
    )
    critic_warmup_epochs: int = field(
        default=4, metadata={"help": "Passes over the first buffer that train the critic before GAE uses it."}
    )
    critic_warmup_lr: float = field(
        default=1e-3, metadata={"help": "Learning rate of the warm-up of critics shared and head."}
    )
    entropy_coef: float = field(default=0.0, metadata={"help": "Weight of the entropy bonus."})
    min_entropy: float = field(
        default=0.0,
        metadata={"help": "A step with a mean entropy below this ends the passes over its buffer; 0 is off."},
    )
    target_kl: float = field(
        default=0.0,
        metadata={"help": "A step whose policy is further than this from the sampling one ends the passes; 0 is off."},
    )
    save_rollouts: bool = field(
        default=True, metadata={"help": "Write each buffer's samples and scores to OUTPUT_DIR/rollouts."}
    )
    quirks: Literal["fixed", "published"] = field(
        default="fixed",
        metadata={
            "help": "published: fixed order, a short batch topped up from the beginning, advantages standardised with "
            "padding in each batch, no penalty on first tokens, the published rules of sentences."
        },
    )
