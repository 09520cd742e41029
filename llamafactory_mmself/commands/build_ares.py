# SPDX-License-Identifier: Apache-2.0
"""`mmself build ares`: what happens between ARES's trainings, step by step; `mmself loop` does the same in one go."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sample import add_engine, engine_config, engine_file


if TYPE_CHECKING:
    from ..generate.teacher import Teacher
    from ..prompts import Prompt
    from ..recipes.ares import Built


_EPILOG = """
examples, in the order of a round:
  llamafactory-cli train examples/ares/toy.yaml                    (stage ares_ppo: samples, scores and trains)
  mmself sample --questions train.json --prompt ares_rationale --model saves/rl ... --temperature 0 --out rl.jsonl
  mmself build ares correct --questions train.json --samples rl.jsonl --teacher teacher.yaml --out data --name fixed
  mmself sample ... --model saves/sft --out sft.jsonl
  mmself build ares answer --questions train.json --samples sft.jsonl --out data --name answers
  mmself build ares answer --questions test.json --samples test_sft.jsonl --requests asked.jsonl
  mmself sample --requests asked.jsonl --model saves/sft --adapter saves/answer ... --out answered.jsonl
  mmself build ares report --questions test.json --answers answered.jsonl --samples test_sft.jsonl
  mmself build ares compare --questions test.json --samples test_sft.jsonl --baseline test_rl.jsonl \
      --judge judge.yaml --out wins.json

A teacher is a YAML file, a file of scores, or module:function; see docs/ares.md.
"""


def add(recipes: Any) -> None:
    """Adds the recipe to the recipes of `mmself build`."""
    ares = recipes.add_parser(
        "ares",
        help="scores of sentences, corrections to learn from, answers from rationales, captions",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = ares.add_subparsers(required=True, metavar="PART")
    _add_score(parts.add_parser("score", help="let a teacher score samples, sentence by sentence"))
    _add_correct(parts.add_parser("correct", help="let a teacher correct samples: rows for reflection_sft"))
    _add_answer(parts.add_parser("answer", help="rows of the answer adapter, or its requests"))
    _add_captions(parts.add_parser("captions", help="caption pictures, for the context of prompts"))
    _add_report(parts.add_parser("report", help="accuracy by subject, modality and grade; rationales by overlap"))
    _add_compare(parts.add_parser("compare", help="win rate of rationales over another model's, by a judge"))


def _add_samples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", required=True, type=Path, help="the questions that the samples answer")
    parser.add_argument("--samples", required=True, type=Path, help="rationales of `mmself sample`")


def _add_teacher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", required=True, help="YAML file, .jsonl file of scores, or module:function")
    parser.add_argument(
        "--quirks", choices=("fixed", "published"), default="fixed", help="the published rules of sentences"
    )


def _add_score(parser: argparse.ArgumentParser) -> None:
    _add_samples(parser)
    _add_teacher(parser)
    parser.add_argument("--score_answer", action="store_true", help="score announced answers, too")
    parser.add_argument("--out", required=True, type=Path, help="JSONL file of scores")
    parser.set_defaults(run=_score)


def _add_correct(parser: argparse.ArgumentParser) -> None:
    _add_samples(parser)
    _add_teacher(parser)
    parser.add_argument("--prompt", default="ares_rationale", help="that rationales are asked with")
    parser.add_argument("--check", default="letters", help="verifier profile of announced answers; none: unchecked")
    parser.add_argument("--min_sentences", type=int, default=1, help="of a correction (default: 1)")
    parser.add_argument("--keep_repeats", action="store_true", help="keep corrections that repeat themselves")
    parser.add_argument("--out", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.set_defaults(run=_correct)


def _add_answer(parser: argparse.ArgumentParser) -> None:
    _add_samples(parser)
    parser.add_argument("--prompt", type=Path, help="your own prompt file")
    parser.add_argument("--out", type=Path, help="folder of the data set")
    parser.add_argument("--name", help="name of the data set")
    parser.add_argument("--requests", type=Path, help="write requests for `mmself sample` here, and no data set")
    parser.set_defaults(run=_answer)


def _add_captions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", required=True, type=Path, help="questions with pictures")
    parser.add_argument("--out", required=True, type=Path, help="the questions with captions, JSON")
    parser.add_argument("--prompt", default="caption", help="a prompt file, or caption (default)")
    parser.add_argument("--max_new_tokens", type=int, default=128, help="where a caption is cut (default: 128)")
    add_engine(parser.add_argument_group("who captions"))
    parser.set_defaults(run=_captions)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", required=True, type=Path, help="the questions, with subject, grade, solution")
    parser.add_argument("--answers", required=True, type=Path, help="samples with announced answers")
    parser.add_argument("--samples", type=Path, help="rationales, to be compared with the questions' `solution`")
    parser.add_argument("--profile", default="letters", help="verifier profile (default: letters)")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    parser.set_defaults(run=_report)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    _add_samples(parser)
    parser.add_argument("--baseline", required=True, type=Path, help="rationales of the other model")
    parser.add_argument("--judge", required=True, type=Path, metavar="YAML", help="engine of the judge")
    parser.add_argument("--rubric", type=Path, help="your own rubric (default: eval_win_rate)")
    parser.add_argument("--blind_judge", action="store_true", help="the judge does not get the pictures")
    parser.add_argument("--out", required=True, type=Path, help="JSON file of the figures")
    parser.set_defaults(run=_compare)


def _options(arguments: argparse.Namespace, **more: Any) -> Any:
    from ..recipes.ares import AresOptions

    return AresOptions.from_dict({"quirks": arguments.quirks, **more})


def _score(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..generate.jobs import read_samples
    from ..generate.teacher import load_teacher
    from ..recipes.ares import score_samples

    questions, samples = read_questions(arguments.questions, labelled=False), read_samples(arguments.samples)
    teacher = load_teacher(arguments.teacher, arguments.out.with_suffix(".teacher.jsonl"))
    options = _options(arguments, score_answer=arguments.score_answer)
    facts = score_samples(questions, samples, teacher, options, arguments.out)
    print(f"{arguments.out}: {_listed({**facts, **teacher.counts()})}")
    return _status(teacher)


def _correct(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..generate.jobs import read_samples
    from ..generate.requests import question_prompt
    from ..generate.teacher import load_teacher
    from ..recipes.ares import correction_rows, lessons_to_correct

    questions, samples = read_questions(arguments.questions), read_samples(arguments.samples)
    options = _options(
        arguments,
        check=None if arguments.check == "none" else arguments.check,
        min_sentences=arguments.min_sentences,
        drop_repeats=not arguments.keep_repeats,
    )
    teacher = load_teacher(arguments.teacher, arguments.out / f"{arguments.name}.teacher.jsonl")
    pairs = lessons_to_correct(questions, samples, options)
    corrected = teacher.correct([lesson for lesson, _ in pairs])
    built = correction_rows(pairs, corrected, question_prompt(arguments.prompt), options)
    print(f"teacher: {_listed(teacher.counts())}")
    status = _status(teacher)
    _write(arguments, built)
    return status


def _answer(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..files import write_jsonl
    from ..generate.jobs import read_samples
    from ..recipes.ares import answer_requests, answer_rows
    from ..recipes.records import RecipeError

    questions, samples = read_questions(arguments.questions), read_samples(arguments.samples)
    prompt = _answer_prompt(arguments.prompt)
    if arguments.requests is not None:
        requests = answer_requests(questions, samples, prompt)
        write_jsonl(arguments.requests, (request.to_row() for request in requests))
        print(f"{arguments.requests}: {len(requests)} questions with rationales to be answered")
        return 0
    if arguments.out is None or arguments.name is None:
        raise RecipeError("Give --out and --name for a data set, or --requests.")
    return _write(arguments, answer_rows(questions, samples, prompt))


def _answer_prompt(file: Path | None) -> Prompt:
    from ..prompts import load_prompt

    return load_prompt(file, "ares_answer.txt", ("question", "context", "options", "rationale"))


def _captions(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from ..data.questions import read_questions, write_questions
    from ..files import write_json
    from ..generate.jobs import SampleJob, read_samples, run_job
    from ..generate.requests import question_prompt, question_requests
    from ..generate.types import SamplingParams
    from ..recipes.ares import captioned

    questions = read_questions(arguments.questions, labelled=False)
    pictured = [question for question in questions if question.images]
    requests = question_requests(pictured, question_prompt(arguments.prompt))
    params = SamplingParams(temperature=0.0, max_new_tokens=arguments.max_new_tokens)
    out = arguments.out.with_suffix(".captions.jsonl")
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        samples = read_samples(run_job(SampleJob(requests, params, 0, out), engine_config(arguments)))
    write_questions(arguments.out, captioned(questions, samples))
    texts = {sample.request: sample.text for sample in samples}
    write_json(arguments.out.with_suffix(".captions.json"), {"captions": texts})
    print(f"{arguments.out}: {len(texts)} of {len(questions)} questions have a caption")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ..data.questions import read_questions
    from ..evaluate.rationales import by_kind, overlap
    from ..files import write_json
    from ..generate.jobs import read_samples
    from ..recipes.records import verify_samples

    questions = read_questions(arguments.questions)
    checked = [
        item
        for item in verify_samples(questions, read_samples(arguments.answers), arguments.profile, 0)
        if item.sample.k == 0
    ]
    shares = by_kind(questions, {item.question: item.verdict.correct for item in checked})
    unparsed = sum(not item.verdict.parsed for item in checked)
    figures: dict[str, Any] = {"unparsed": unparsed, "answers": len(checked), "accuracy": {}}
    for name, share in shares.items():
        if share.accuracy is not None:
            low, high = share.interval.low, share.interval.high
            figures["accuracy"][name] = {"accuracy": share.accuracy, "of": share.total, "low": low, "high": high}
            print(f"{name:<11} {share.accuracy:6.1%} of {share.total} (95 %: {low:.1%} to {high:.1%})")
    print(f"{'unparsed':<11} {unparsed} of {len(checked)}")
    references = {question.id: str(question.extra.get("solution") or "") for question in questions}
    if arguments.samples is not None and any(references.values()):
        rationales = {sample.request: sample.text for sample in read_samples(arguments.samples) if sample.k == 0}
        figures["rationales"] = asdict(overlap(references, rationales))
        print(f"rationales: {_listed({n: v for n, v in figures['rationales'].items() if v is not None})}")
    if arguments.out is not None:
        write_json(arguments.out, figures)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from ..data.questions import read_questions
    from ..evaluate.rationales import win_rate
    from ..files import write_json
    from ..generate.engines import LazyEngine
    from ..generate.jobs import read_samples

    questions = read_questions(arguments.questions, labelled=False)
    ours, theirs = (
        {sample.request: sample.text for sample in read_samples(file) if sample.k == 0}
        for file in (arguments.samples, arguments.baseline)
    )
    judge = LazyEngine(engine_file(arguments.judge))
    cache = arguments.out.with_suffix(".judge.jsonl")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
            found = win_rate(
                questions, ours, theirs, judge, cache, rubric=arguments.rubric, picture=not arguments.blind_judge
            )
    finally:
        judge.close()
    write_json(arguments.out, found)
    for name, figure in found["figures"].items():
        low, value, high = ("-" if figure[key] is None else f"{figure[key]:.1f}" for key in ("low", "value", "high"))
        print(f"{name:<8} {value:>5} % (95 %: {low} to {high})")
    print(f"{'pairs':<8} {found['pairs']}, unparsed {found['unparsed']}, without a partner {found['unpaired']}")
    return 0


def _status(teacher: Teacher) -> int:
    """1 where the teacher was away and lessons are lacking, which is told with what to do."""
    lacking = int(teacher.counts().get("unanswered", 0))
    if lacking:
        print(
            f"mmself: the teacher has not answered {lacking} lessons, which are left out. See that it is up and run "
            "the same command again; what it has answered is not asked again.",
            file=sys.stderr,
        )
    return 1 if lacking else 0


def _write(arguments: argparse.Namespace, built: Built) -> int:
    from ..recipes.examples import write_dataset

    path = write_dataset(arguments.out, arguments.name, built.examples)
    for reason, count in built.skipped.items():
        print(f"left out: {count} ({reason})")
    sources = Counter(example.provenance.get("source", "policy") for example in built.examples)
    print(f"{path}: {len(built.examples)} rows ({_listed(sources)}), registered as {arguments.name!r}")
    return 0


def _listed(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
