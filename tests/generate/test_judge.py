# SPDX-License-Identifier: Apache-2.0
"""Judges: strict reading, further tries, a cache that survives kills."""

import json

import pytest
from PIL import Image

from llamafactory_mmself.files import FileError
from llamafactory_mmself.generate.forms import Choice, Score, YesNo
from llamafactory_mmself.generate.judge import Judge, JudgeError, JudgeItem, judge_prompt
from llamafactory_mmself.generate.types import Completion, EngineError, SamplingParams
from llamafactory_mmself.prompts import load_prompt


class ScriptedEngine:
    """Answers with the next text of a script and remembers what it was asked."""

    name = "scripted"

    def __init__(self, script, policy="judge-1", finish_reason="stop"):
        self.policy = policy
        self.script = list(script)
        self.finish_reason = finish_reason
        self.calls = []

    def generate(self, requests, params, seed):
        self.calls.append((list(requests), params, seed))
        answers = []
        for _ in requests:
            text = self.script.pop(0)
            if isinstance(text, Exception):
                raise text
            answers.append([Completion(text, (), self.finish_reason)])
        return answers

    def close(self):
        pass


@pytest.fixture
def prompt(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("version: 1\n\nIs {claim} right?\n")
    return load_prompt(file, "", ("claim",))


def items(*claims, images=()):
    return [JudgeItem(str(number), {"claim": claim}, images) for number, claim in enumerate(claims)]


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (YesNo(), "yes", True),
        (YesNo(), " No.\n", False),
        (YesNo(), "The cube is red.\nVerdict: yes", True),
        (YesNo(), "**Verdict: No**", False),
        (YesNo(), "**Verdict:** yes", True),
        (YesNo(), "Verdict: yes\nOn second thoughts ...\nVerdict: no", None),
        (YesNo(), "Verdict: yes\nverdict: Yes.", True),
        (YesNo(), "yes and no", None),
        (YesNo(), "Yes, the cube is red.", None),
        (YesNo(), "Verdict: perhaps", None),
        (YesNo(), "Verdict:", None),
        (YesNo(), "", None),
        (Score(), "7", 7.0),
        (Score(), "Good.\nScore: 7.5", 7.5),
        (Score(), "Score: 7/10", 7.0),
        (Score(), "Score: 3/5", None),
        (Score(), "Score: 11", None),
        (Score(), "Score: -1", None),
        (Score(-1, 1), "Score: -1", -1.0),
        (Score(), "Score: 7 or 8", None),
        (Score(), "I would give it a 7.", None),
        (Score(), "Score: nan", None),
        (Score(whole=True), "Score: 7.5", None),
        (Score(whole=True), "Score: 7.0", 7.0),
        (Choice(("A", "B")), "(B)", "B"),
        (Choice(("A", "B")), "Choice: (a)", "A"),
        (Choice(("A", "B")), "Choice: C", None),
        (Choice(("A", "B")), "A or B", None),
        (Choice(("response 1", "response 2", "tie"), label="Winner"), "Winner: Response 2", "response 2"),
    ],
)
def test_answers_are_read_strictly(form, text, value):
    found = form.parse(text)
    assert found == value
    assert type(found) is type(value)


def test_a_choice_needs_different_options():
    with pytest.raises(ValueError, match="two or more different"):
        Choice(("A", "a"))


def test_unparsed_answers_are_counted_and_never_guessed(prompt):
    engine = ScriptedEngine(["Verdict: yes", "hard to say", "Verdict: no"])
    judge = Judge(engine, prompt, YesNo())
    judgements = judge.ask(items("one", "two", "three"))
    assert [judgement.value for judgement in judgements] == [True, None, False]
    assert [judgement.parsed for judgement in judgements] == [True, False, True]
    assert judgements[1].text == "hard to say"
    assert (judge.stats.judged, judge.stats.asked, judge.stats.unparsed, judge.stats.cached) == (3, 3, 1, 0)


def test_a_cut_answer_is_unparsed(prompt):
    judge = Judge(ScriptedEngine(["Score: 1"], finish_reason="length"), prompt, Score())
    assert judge.ask(items("one"))[0].value is None


def test_only_unclear_items_are_asked_again_with_another_seed(prompt):
    engine = ScriptedEngine(["Verdict: yes", "hmm", "hmm", "hmm", "Verdict: no", "still hmm"])
    judge = Judge(engine, prompt, YesNo(), seed=5, tries=3)
    one, two, three = judge.ask(items("one", "two", "three"))
    assert (one.value, two.value, three.value) == (True, None, False)
    assert (one.tries, two.tries, three.tries) == (1, 3, 2)
    assert two.text == "still hmm"
    assert [seed for _, _, seed in engine.calls] == [5, 6, 7]
    assert [params.temperature > 0 for _, params, _ in engine.calls] == [False, True, True]
    assert judge.stats.unparsed == 1


def test_batches_and_pictures(prompt, tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(picture)
    engine = ScriptedEngine(["yes"] * 5)
    Judge(engine, prompt, YesNo(), batch_size=2).ask(items("a", "b", "c", "d", "e", images=(str(picture),)))
    assert [len(requests) for requests, _, _ in engine.calls] == [2, 2, 1]
    (request, *_), _, _ = engine.calls[0]
    assert request.messages[0].content == "<image>\nIs a right?"
    assert request.images == (str(picture),)


def test_a_placeholder_in_a_text_asks_for_no_picture(prompt):
    engine = ScriptedEngine(["yes"])
    Judge(engine, prompt, YesNo()).ask(items("see <image>"))
    assert "<image>" not in engine.calls[0][0][0].messages[0].content


def test_equal_items_are_asked_once(prompt):
    engine = ScriptedEngine(["yes", "no"])
    judgements = Judge(engine, prompt, YesNo()).ask(items("a", "b", "a"))
    assert [judgement.value for judgement in judgements] == [True, False, True]


def test_the_cache_answers_the_same_question_only(prompt, tmp_path):
    cache = tmp_path / "cache.jsonl"
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(picture)

    def ask(policy="judge-1", claim="one", prompt=prompt, **options):
        engine = ScriptedEngine(["yes"], policy)
        judge = Judge(engine, prompt, YesNo(), cache=cache, **options)
        (judgement,) = judge.ask(items(claim, images=(str(picture),)))
        assert judgement.value is True
        assert judge.stats.asked + judge.stats.cached == 1
        return judge.stats.asked

    assert ask() == 1
    assert ask() == 0
    other = tmp_path / "other.txt"
    other.write_text("version: 2\n\nIs {claim} right?\n")
    changes = (
        {"policy": "judge-2"},
        {"claim": "two"},
        {"params": SamplingParams(temperature=0.5)},
        {"seed": 1},
        {"prompt": load_prompt(other, "", ("claim",))},
    )
    for change in changes:
        assert ask(**change) == 1
        assert ask(**change) == 0
    Image.new("RGB", (5, 4)).save(picture)
    assert ask() == 1


def test_answers_before_a_failure_are_kept(prompt, tmp_path):
    cache = tmp_path / "cache.jsonl"
    engine = ScriptedEngine(["yes", "yes", EngineError("The endpoint is gone.")])
    with pytest.raises(EngineError, match="gone"):
        Judge(engine, prompt, YesNo(), cache=cache, batch_size=1).ask(items("a", "b", "c"))
    judge = Judge(ScriptedEngine(["no"]), prompt, YesNo(), cache=cache)
    assert [judgement.value for judgement in judge.ask(items("a", "b", "c"))] == [True, True, False]
    assert (judge.stats.asked, judge.stats.cached) == (1, 2)


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_tail_cut_by_a_kill_is_asked_for_again(prompt, tmp_path, kept):
    cache = tmp_path / "cache.jsonl"
    Judge(ScriptedEngine(["yes", "no"]), prompt, YesNo(), cache=cache).ask(items("a", "b"))
    first, second = cache.read_bytes().splitlines(keepends=True)
    cache.write_bytes(first + second[: int(kept * len(second))])

    judge = Judge(ScriptedEngine(["no", "yes"]), prompt, YesNo(), cache=cache)
    assert [judgement.value for judgement in judge.ask(items("a", "b", "c"))] == [True, False, True]
    assert (judge.stats.asked, judge.stats.cached, judge.stats.damaged) == (2, 1, 1)

    again = Judge(ScriptedEngine([]), prompt, YesNo(), cache=cache)
    assert [judgement.value for judgement in again.ask(items("a", "b", "c"))] == [True, False, True]
    assert again.stats.cached == 3


def test_two_judges_may_share_a_cache_file(prompt, tmp_path):
    cache = tmp_path / "cache.jsonl"
    one = Judge(ScriptedEngine(["yes"]), prompt, YesNo(), cache=cache)
    two = Judge(ScriptedEngine(["no"]), prompt, YesNo(), cache=cache)
    one.ask(items("a"))
    two.ask(items("b"))
    assert len([json.loads(line) for line in cache.read_text().splitlines()]) == 2
    judge = Judge(ScriptedEngine([]), prompt, YesNo(), cache=cache)
    assert [judgement.value for judgement in judge.ask(items("a", "b"))] == [True, False]


def test_a_cache_that_cannot_be_written_is_named(prompt, tmp_path):
    (tmp_path / "file").write_text("")
    judge = Judge(ScriptedEngine(["yes"]), prompt, YesNo(), cache=tmp_path / "file" / "cache.jsonl")
    with pytest.raises(FileError, match=r"cache\.jsonl cannot be written"):
        judge.ask(items("a"))


def test_mistakes_are_named(prompt):
    with pytest.raises(JudgeError, match="n has to be 1, not 4"):
        Judge(ScriptedEngine([]), prompt, YesNo(), params=SamplingParams(n=4))
    with pytest.raises(JudgeError, match="tries"):
        Judge(ScriptedEngine([]), prompt, YesNo(), tries=0)
    with pytest.raises(JudgeError, match=r"Item 17 has no value for \{claim\}"):
        Judge(ScriptedEngine([]), prompt, YesNo()).ask([JudgeItem("17", {})])
    with pytest.raises(JudgeError, match=r"Item 17: the picture cannot be read: .*none\.png"):
        Judge(ScriptedEngine([]), prompt, YesNo()).ask([JudgeItem("17", {"claim": "a"}, ("none.png",))])


@pytest.mark.parametrize(
    ("kind", "form", "values", "text", "value"),
    [
        ("yes_no", YesNo(), {"question": "q", "reference": "r", "answer": "a"}, "Same.\nVerdict: yes", True),
        ("score", Score(0, 5), {"question": "q", "reference": "r", "answer": "a"}, "Score: 5", 5.0),
        ("choice", Choice(("A", "B")), {"question": "q", "candidates": "A: x\nB: y"}, "Choice: B", "B"),
    ],
)
def test_packaged_prompts(kind, form, values, text, value):
    engine = ScriptedEngine([text])
    (judgement,) = Judge(engine, judge_prompt(kind), form).ask([JudgeItem("1", values)])
    assert judgement.value == value
    content = engine.calls[0][0][0].messages[0].content
    assert all(value in content for value in form.values.values())
    assert f"{form.label}:" in content
