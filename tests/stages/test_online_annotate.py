# SPDX-License-Identifier: Apache-2.0
"""What becomes of a group, and what the published files say about it."""

from types import SimpleNamespace
from unittest.mock import Mock

from llamafactory_mmself.data.rows import PreferenceRow
from llamafactory_mmself.data.turns import Turn
from llamafactory_mmself.generate.negatives import Negative
from llamafactory_mmself.generate.services import Picture
from llamafactory_mmself.stages.mdpo.arguments import MDPOArguments
from llamafactory_mmself.stages.mdpo.online.annotate import Annotator
from llamafactory_mmself.stages.mdpo.online.entries import Answer, Group, Outcome
from llamafactory_mmself.stages.mdpo.online.prompts import OnlinePrompt
from llamafactory_mmself.stages.mdpo.online.published import pair_row


def test_the_rejected_response_of_a_chunk_is_the_one_that_the_picture_was_painted_for(tmp_path):
    row = PreferenceRow("q", "f", 0, "", "", (Turn("user", "<image>\nWhat?"),), "ref", ("",))
    prompt = OnlinePrompt(row, (1,), (), (2,))
    maker = Mock(make=Mock(return_value=[Negative("a dog", Picture(b"png"), 5, {})]))
    args = MDPOArguments(strategy="grpo", grpo_image_term="negative", grpo_chunk=1)
    scorer = SimpleNamespace(score=lambda items: [5, 2, 9])
    group = Group(0, 3, 0, tuple(Answer(text, (place,)) for place, text in enumerate(["so-so", "bad", "good"])))
    outcome = Annotator([prompt], scorer, maker, args, tmp_path)(group)

    ((item,),) = maker.make.call_args.args
    assert (item.chosen, item.rejected) == ("good", "bad")
    outcome = Outcome.from_row(outcome.to_row())
    (entry,) = [entry for entry in outcome.entries if entry.negative is not None]
    written = pair_row(entry, prompt)
    assert (written["chosen_response"], written["chosen_score"]) == ("good", 9)
    assert (written["rejected_response"], written["rejected_score"]) == ("bad", 2)
