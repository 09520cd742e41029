# SPDX-License-Identifier: Apache-2.0
"""The published code's cases: default profiles give the right result, `-published` ones the published result."""

from llamafactory_mmself import verify
from llamafactory_mmself.verify import published, sections, tabmwp
from tests.verify.yardsticks import geoqa_vote, score_key, stl_accuracy


def expected(case):
    return case["recommended_result"] if case["bug"] else case["seed_result"]


def asked(unit):
    return f"How much? (Unit: {unit})" if unit else "How much?"


def test_geoqa(vectors):
    for case in vectors("r3v.json", "geoqa_verify"):
        text, choices = case["input"]["text"], case["input"]["choices"]
        want = case["recommended_result"]["option"]
        for truth in "ABCD":
            verdict = verify.check("geoqa", text, truth, choices=choices)
            assert (verdict.answer, verdict.correct) == (want, truth == want), case["id"]
            assert verdict.parsed == (want is not None)


def test_geoqa_as_published(vectors):
    for case in vectors("r3v.json", "geoqa_verify"):
        text, choices, seed = case["input"]["text"], case["input"]["choices"], case["seed_result"]
        for truth in "ABCD":
            judge = verify.check("geoqa-published", text, truth, choices=choices)
            assert judge.correct == (seed["train_judge_accepts"] == truth), case["id"]
            judge = verify.check("geoqa-published-eval", text, truth, choices=choices)
            if str(seed["eval_judge_accepts"]).startswith("RANDOM"):
                assert judge == verify.Verdict(False, False, None, "random"), case["id"]
            else:
                assert judge.correct == (seed["eval_judge_accepts"] == truth), case["id"]
        vote = verify.check("geoqa-published-vote", text, "A", choices=choices)
        assert (vote.answer or "FAILED") == seed["vote_extract"], case["id"]


def test_letters(vectors):
    for case in vectors("r3v.json", "mc_ladder"):
        text, choices = case["input"]["text"], case["input"]["choices"]
        for name in ("letters", "m3cot", "scienceqa"):
            verdict = verify.check(name, text, "A", choices=choices)
            assert (verdict.answer or "FAILED") == expected(case)["option"], case["id"]
        for name in ("letters-published", "m3cot-published", "geoqa-published-vote"):
            verdict = verify.check(name, text, "A", choices=choices)
            assert (verdict.answer or "FAILED") == case["seed_result"]["option"], case["id"]


def test_tabmwp(vectors):
    for case in vectors("r3v.json", "tabmwp_verify"):
        ask, seed = case["input"], case["seed_result"]
        facts = {"choices": ask["choices"], "question": asked(ask["unit"])}
        assert verify.check("tabmwp", ask["text"], ask["gold"], **facts).correct == expected(case)["correct"], case[
            "id"
        ]
        verdict = verify.check("tabmwp-published", ask["text"], ask["gold"], **facts)
        if str(seed["correct"]).startswith("RANDOM"):
            assert verdict == verify.Verdict(False, False, None, "random"), case["id"]
        else:
            assert (verdict.correct, verdict.answer) == (seed["correct"], seed["prediction_norm"]), case["id"]


def test_tabmwp_with_letters_as_truth(vectors):
    for case in vectors("r3v.json", "tabmwp_verify"):
        ask = case["input"]
        if ask["choices"] is None:
            continue
        letter = "ABCDEF"[ask["choices"].index(ask["gold"])]
        verdict = verify.check("tabmwp", ask["text"], letter, choices=ask["choices"])
        assert verdict.correct == expected(case)["correct"], case["id"]


def test_tabmwp_normal_forms(vectors):
    for case in vectors("r3v.json", "tabmwp_normalize"):
        assert tabmwp.normalize(**case["input"]) == expected(case), case["id"]
        assert published.tabmwp_normalize(**case["input"]) == case["seed_result"], case["id"]


def test_chartqa_and_clevr(vectors):
    for name in ("chartqa", "clevr"):
        for case in vectors("r3v.json", f"{name}_verify"):
            text, gold, seed = case["input"]["text"], case["input"]["gold"], case["seed_result"]
            assert verify.check(name, text, gold).correct == expected(case)["correct"], case["id"]
            verdict = verify.check(f"{name}-published", text, gold)
            assert (verdict.answer or "unknown", verdict.correct) == (seed["prediction"], seed["correct"]), case["id"]


def test_geoqa_votes(vectors):
    for case in vectors("r3v.json", "geoqa_majority_vote"):
        ask, seed, want = case["input"], case["seed_result"], case["recommended_result"]
        read = [verify.check("geoqa", text, ask["gold"], choices=ask["choices"]) for text in ask["samples"]]
        winner = verify.majority_vote([verdict.answer for verdict in read])
        assert winner in want.get("winner_in", [want.get("winner", seed["winner"])]), case["id"]
        if "correct" in want:
            assert (winner == ask["gold"]) == want["correct"]
        vote = geoqa_vote(ask["samples"], ask["choices"])
        assert vote.extracted == seed["extracted"], case["id"]
        judge = verify.check("geoqa-published", vote.winner, ask["gold"], choices=ask["choices"])
        assert (vote.winner, judge.correct) == (seed["winner"], seed["correct"]), case["id"]


def test_clevr_votes(vectors):
    for case in vectors("r3v.json", "clevr_majority_vote"):
        answers = [None if answer == "unknown" else answer for answer in case["input"]["extracted"]]
        assert verify.majority_vote(answers) == expected(case)["winner"], case["id"]
        winner = verify.majority_vote(answers, unparsed="vote")
        assert (winner or "unknown") == case["seed_result"]["winner"], case["id"]


def test_see_think_answers(vectors):
    for case in vectors("stl.json", "extract_positive"):
        ask, want = case["input"], expected(case)
        found = sections.read_answer(ask["response"], ask["choices"])
        assert found.ok == (want is not None), case["id"]
        choice = f"({found.option.lower()})" if found.option else None
        facts = {"caption": found.caption, "rationale": found.reasoning, "choice": choice}
        assert want is None or facts | want == facts, case["id"]
        assert verify.check("stl", ask["response"], "A", choices=ask["choices"]).parsed == found.ok
        seed = published.stl_answer(ask["response"], tuple(ask["choices"]))
        names = ("caption", "rationale", "choice")
        assert (seed and dict(zip(names, seed, strict=True))) == case["seed_result"], case["id"]


def test_refutations(vectors):
    for case in vectors("stl.json", "extract_negative"):
        ask, want, seed = case["input"], expected(case), case["seed_result"]
        wrong, right = (ask[name].strip("()").upper() for name in ("wrong_option", "correct_option"))
        found = sections.read_refutation(ask["response"], wrong=wrong, right=right, choices=ask["choices"])
        assert found.ok == (want is not None), case["id"]
        if want is not None:
            assert (found.caption, found.explanation) == (want["caption"], want["explanation"]), case["id"]
        old = published.stl_refutation(ask["response"])
        assert old == (seed and (seed["caption"], seed["explanation"])), case["id"]


def test_keys(vectors):
    for case in vectors("stl.json", "accuracy"):
        answers, key = [tuple(pair) for pair in case["input"]["extractions"]], case["input"]["key"]
        score = score_key(answers, key)
        facts = {"correct": len(score.right), "total": score.total, "accuracy": score.accuracy}
        assert case["recommended_result"] in (facts, case["seed_result"]), case["id"]
        assert stl_accuracy(answers, key) == case["seed_result"], case["id"]
