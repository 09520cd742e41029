# SPDX-License-Identifier: Apache-2.0
"""Arguments of stage `mdpo`, under the names that OViP's command line uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..base import TreeArguments


@dataclass
class MDPOArguments(TreeArguments):
    """Arguments of stage `mdpo`. Beta, smoothing and the pair loss are LLaMA-Factory's own `pref_*` arguments."""

    strategy: str = field(
        default="orm",
        metadata={
            "help": "What is compared. dpo: answers. mdpo, vtcl: answers, and the picture with the rejected one. "
            "ori-mdpo: the same with a random crop as the rejected picture. svco-noref, svco-ref, svco-textref: S-VCO "
            "without a middle, with a white picture, or with no picture as the middle. orm: OViP's loss. sft: none. "
            "With `online-` before any of them, pairs are sampled from the policy in training. grpo: groups of "
            "samples, rewarded by the judge."
        },
    )
    vtcl_mode: Literal["single", "difBatch", "sameBatch"] = field(
        default="single",
        metadata={
            "help": "Directions of a row. single: the chosen answer belongs to the picture. difBatch: the same; the "
            "data holds both directions as separate rows. sameBatch: the rejected answer also belongs to the rejected "
            "picture, both directions in one sample."
        },
    )
    anchor_ratio: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the anchor, which keeps the chosen answer above its reference; below 1e-6 it is off. "
            "Default: 0.999 for mdpo, vtcl and ori-mdpo, as in their paper, and 0 for the others."
        },
    )
    neg_anchor_ratio: float = field(
        default=0.0,
        metadata={"help": "Weight of the anchor against the rejected answer; read only when the anchor is on."},
    )
    not_half_dpo_loss: bool = field(
        default=False,
        metadata={"help": "orm: the sum of the two picture terms instead of half of it (OViP's own runs set it)."},
    )
    mask_same_sequence: bool = field(
        default=False,
        metadata={"help": "Score only the tokens in which the chosen and the rejected answer differ."},
    )
    quirks: Literal["fixed", "published"] = field(
        default="fixed",
        metadata={"help": "`published` repeats known defects of the published losses, for comparisons."},
    )
    ds_path: str = field(
        default="",
        metadata={
            "help": "Online: JSON or JSONL file of the prompts to sample for, with reference answers: OViP's rows, or "
            "questions. Pictures are looked for in `media_dir`, then beside the file."
        },
    )
    services: str = field(
        default="",
        metadata={"help": "Online: YAML file of judge, describer and painter, or `toy` for those of the toy world."},
    )
    experience_buffer: bool = field(
        default=True,
        metadata={
            "help": "Online: keep sampled pairs in a buffer, and sample ahead of training. false: pairs "
            "that the step after their sampling does not take are dropped, and everything happens in turn."
        },
    )
    exp_per_batch: int = field(
        default=2,
        metadata={
            "help": "Online: pairs (grpo: groups) that a micro-step takes from the buffer, on each rank. It takes the "
            "place of per_device_train_batch_size."
        },
    )
    online_only: bool = field(
        default=False, metadata={"help": "Online: never fall back on the reference answer as the chosen one."}
    )
    online_only_strategy: str = field(
        default="",
        metadata={
            "help": "Online: with `online_only`, `additional` pairs the best with the worst response of groups "
            "without a pair, if they are 2 apart."
        },
    )
    pair_rule: Literal["published", "paper", "robust"] = field(
        default="robust",
        metadata={
            "help": "Online: when two responses make a pair. published: as in the code. paper: gap above max(3, 2 "
            "sigma), chosen at least 6, rejected at most 4. robust: the same with the sigma inside the good and "
            "inside the bad ones, so that groups of both qualify."
        },
    )
    rollout_engine: str = field(
        default="hf",
        metadata={
            "help": "Online: what samples. hf: the model in training itself. A YAML file of an engine: vLLM in this "
            "process (`name: vllm`), or a vLLM server (`name: openai`, `api_base`) that takes adapters at run time."
        },
    )
    rollout_n: int = field(default=16, metadata={"help": "Online: samples for each prompt."})
    rollout_temperature: float = field(default=1.2, metadata={"help": "Online: temperature of sampling."})
    rollout_top_p: float = field(default=0.8, metadata={"help": "Online: nucleus of sampling; 1 is off."})
    rollout_top_k: int = field(default=0, metadata={"help": "Online: likeliest tokens to sample from; 0 is off."})
    rollout_max_new_tokens: int = field(default=256, metadata={"help": "Online: where a sample is cut."})
    rollout_batch_size: int = field(
        default=1,
        metadata={"help": "Online: prompts that a rank samples together, each with `rollout_n` samples."},
    )
    rollout_sync: bool = field(
        default=False,
        metadata={
            "help": "Online: sampling, judging, painting and training in turn, so that a run can be repeated to the "
            "bit, with any number of ranks."
        },
    )
    rollout_ahead: int = field(
        default=2,
        metadata={
            "help": "Online: steps that sampling, judging and painting may be ahead of training. More hides slower "
            "services, and makes pairs older when they are used."
        },
    )
    rollout_workers: int = field(
        default=8, metadata={"help": "Online: prompts that a rank has judged, described and painted at a time."}
    )
    experience_size: int = field(
        default=1024, metadata={"help": "Online: entries that the buffer holds; the most used and oldest go first."}
    )
    experience_replay: int = field(
        default=1,
        metadata={"help": "Online: how often an entry is trained on; for grpo the updates of each rollout."},
    )
    experience_staleness: int = field(
        default=0, metadata={"help": "Online: entries sampled more than so many steps ago are dropped; 0 is off."}
    )
    experience_half_life: float = field(
        default=0.0,
        metadata={
            "help": "Online: entries are drawn with a weight that halves every so many steps after their sampling; 0 "
            "takes them in the order of sampling."
        },
    )
    experience_difficulty: float = field(
        default=0.0,
        metadata={
            "help": "Online: entries are drawn with a weight of difficulty to this power, where difficulty is how far "
            "the prompt's samples are from 10 in the mean; 0 is off."
        },
    )
    grpo_clip_range: float = field(default=0.2, metadata={"help": "grpo: epsilon of the clipped loss."})
    grpo_ground_truth: bool = field(
        default=False, metadata={"help": "grpo: the reference answer is one more sample of each group, with score 10."}
    )
    grpo_chunk: int = field(
        default=0,
        metadata={
            "help": "grpo: responses of a group that a micro-step sees; the others follow in later ones. 0: all "
            "(published: 6)."
        },
    )
    grpo_importance_cap: float = field(
        default=2.0,
        metadata={
            "help": "grpo: largest weight of a token that the sampling engine found less likely than training does; "
            "0 is off."
        },
    )
    grpo_image_term: Literal["none", "no_image", "negative"] = field(
        default="none",
        metadata={
            "help": "grpo: a preference for the picture under each group's best response: against no picture, or "
            "against no picture and that against a painted one."
        },
    )
    grpo_image_coef: float = field(default=0.1, metadata={"help": "grpo: weight of the image term."})
    online_data_save_dir: str = field(
        default="", metadata={"help": "Online: folder of what is sampled and painted. Default: `output_dir`."}
    )
    iter_training: bool = field(default=False, metadata={"help": "Accepted for old command lines; does nothing."})
    test: bool = field(default=False, metadata={"help": "Accepted for old command lines; does nothing."})
    test_output_name: str | None = field(
        default=None, metadata={"help": "Accepted for old command lines; does nothing."}
    )
    test_dataset_name: str = field(default="", metadata={"help": "Accepted for old command lines; does nothing."})

    @property
    def online(self) -> bool:
        """Whether the strategy samples during training."""
        return self.strategy == GRPO or self.strategy.startswith(ONLINE)

    @property
    def loss_strategy(self) -> str:
        """The strategy without `online-`: what is compared, wherever the pairs come from."""
        return self.strategy.removeprefix(ONLINE)

    @property
    def updates(self) -> int:
        """How often a prompt is trained on: once for each part of its group, as often as that is replayed."""
        samples = self.rollout_n + self.grpo_ground_truth
        chunks = -(-samples // self.grpo_chunk) if self.strategy == GRPO and self.grpo_chunk else 1
        return self.experience_replay * chunks


#: Strategies that sample: this before an offline one, or grpo.
ONLINE, GRPO = "online-", "grpo"

#: Arguments that only online strategies read.
ONLINE_ONLY = frozenset(
    {
        *("ds_path", "services", "experience_buffer", "exp_per_batch", "online_data_save_dir"),
        *(
            "rollout_engine",
            "rollout_n",
            "rollout_temperature",
            "rollout_top_p",
            "rollout_top_k",
            "rollout_max_new_tokens",
        ),
        *("rollout_batch_size", "rollout_sync", "rollout_ahead", "rollout_workers"),
        *("experience_size", "experience_replay", "experience_staleness", "experience_half_life"),
        "experience_difficulty",
    }
)
#: Arguments of online strategies that make pairs.
PAIRS_ONLY = frozenset({"online_only", "online_only_strategy", "pair_rule"})
#: Arguments of strategy grpo.
GRPO_ONLY = frozenset(
    {
        *("grpo_clip_range", "grpo_ground_truth", "grpo_chunk", "grpo_importance_cap", "grpo_image_term"),
        "grpo_image_coef",
    }
)
#: Arguments that never had an effect, kept so that published command lines parse.
WITHOUT_EFFECT = frozenset({"iter_training", "test", "test_output_name", "test_dataset_name"})
