# SPDX-License-Identifier: Apache-2.0
"""`mmself build`: training data from checked samples."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import build_ares, build_ovip, build_sherlock
from .pictures import add_picture_limits
from .sample import prompt_files, token_limit


if TYPE_CHECKING:
    from ..data.questions import Question
    from ..generate.types import Request
    from ..recipes.examples import Example
    from ..recipes.lengths import TokenLimit
    from ..recipes.prompts import Prompts
    from ..recipes.records import Checked
    from ..recipes.stl import STLOptions

    Made = tuple[list[Example], Mapping[str, int]]


_SHOWN = 10  # examples over the token limit that are named

_EPILOG = """
examples:
  mmself build r3v --questions train.json --samples iter0.jsonl iter1.jsonl --profile geoqa --out data --name r3v_2
  mmself build r3v ... --no_refine --no_select                    (STaR)
  mmself build r3v ... --letters_only                             (answers only; needs no samples)
  mmself build r3v ... --select_candidates 2 3 4 5 6              (sets for scaling at test time)
  mmself build stl --questions train.json --answers a0.jsonl --out data --name stl_1
      without --refutations: writes the prompts for them, data/stl_1_refute_requests.jsonl
  mmself build stl --questions train.json --answers a0.jsonl --refutations r0.jsonl --out data --name stl_1
  mmself build sherlock --help                                     (in several steps)
  mmself build ares --help                                         (in several steps)
  mmself build ovip --help                                         (pairs with painted negative pictures)

Files of samples come from `mmself sample`; the first one is of iteration 0.
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    build = commands.add_parser(
        "build",
        help="make training data from the model's own samples",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    recipes = build.add_subparsers(required=True, metavar="RECIPE")
    _add_r3v(recipes.add_parser("r3v", help="right solutions, self-refine and self-select"))
    _add_stl(recipes.add_parser("stl", help="see-think-answer rationales, and why wrong options are wrong"))
    build_sherlock.add(recipes)
    build_ares.add(recipes)
    build_ovip.add(recipes)


def _add_r3v(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--samples", nargs="+", default=[], type=Path, metavar="JSONL", help="solutions, by iteration")
    parser.add_argument("--profile", default="letters", help="verifier profile (default: letters)")
    parser.add_argument("--no_direct", dest="direct", action="store_false", help="no bare answers")
    parser.add_argument("--no_refine", dest="refine", action="store_false", help="no corrections of wrong solutions")
    parser.add_argument("--no_select", dest="select", action="store_false", help="no selections among solutions")
    parser.add_argument("--pool", choices=("all", "newest", "first"), default="all", help="iterations (default: all)")
    parser.add_argument(
        "--select_candidates",
        nargs="+",
        type=int,
        default=[3],
        metavar="N",
        help="sizes of selections; 3 alone takes the newest solutions, others are drawn (default: 3)",
    )
    parser.add_argument(
        "--select_per_size", type=int, default=3, metavar="N", help="drawn sets of a size (default: 3)"
    )
    parser.add_argument("--min_characters", type=int, metavar="N", help="shorter texts are no solutions")
    bare = parser.add_mutually_exclusive_group()
    bare.add_argument("--bare_answers", action="store_true", default=None, help='learn texts that start "Answer"')
    bare.add_argument("--no_bare_answers", dest="bare_answers", action="store_false", help="do not")
    parser.add_argument(
        "--variant",
        choices=("unified", "geoqa", "chartqa", "clevr", "tabmwp"),
        default="unified",
        help="rules of a published builder (default: unified, ours)",
    )
    parser.add_argument("--warmup", type=Path, metavar="FILE", help="ShareGPT rows to add: solutions to start from")
    parser.set_defaults(run=_r3v)


def _add_stl(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--answers", nargs="+", default=[], type=Path, metavar="JSONL", help="answers, by iteration")
    parser.add_argument("--refutations", nargs="+", default=[], type=Path, metavar="JSONL", help="by iteration, too")
    parser.add_argument("--profile", help="verifier profile (default: stl, or stl-nocaption with --no_caption)")
    parser.add_argument("--no_caption", dest="caption", action="store_false", help="answers without a caption")
    parser.add_argument("--no_negatives", dest="negatives", action="store_false", help="no refutations")
    parser.add_argument("--no_hint", dest="hint", action="store_false", help="do not tell the right option")
    parser.add_argument("--letters", choices=("upper", "lower"), default="upper", help="(A) or (a) (default: upper)")
    parser.add_argument("--pool", choices=("newest", "all"), default="newest", help="iterations (default: newest)")
    parser.add_argument("--answers_per_question", type=int, default=1, metavar="N", help="learnt (default: 1)")
    parser.add_argument("--negatives_per_question", type=int, metavar="N", help="refuted options (default: all)")
    parser.add_argument("--negative_ratio", type=float, metavar="X", help="refutations for each answer, at most")
    parser.add_argument(
        "--checks",
        nargs="*",
        default=["asserts", "cites", "loops", "cut"],
        metavar="NAME",
        help="what refutations and answers are checked for (default: asserts cites loops cut); none: as published",
    )
    parser.add_argument("--min_words", type=int, default=1, metavar="N", help="of a rationale (default: 1)")
    parser.add_argument("--max_words", type=int, metavar="N", help="of a target")
    parser.set_defaults(run=_stl)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", required=True, type=Path, help="the questions that the samples answer")
    parser.add_argument("--out", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.add_argument("--seed", type=int, default=0, help="of orders and draws (default: 0)")
    parser.add_argument("--letters_only", action="store_true", help="bare answers and nothing else; needs no samples")
    parser.add_argument(
        "--quirks", choices=("fixed", "published"), default="fixed", help="defects of the original, too"
    )
    parser.add_argument("--prompt", nargs="+", default=[], metavar="NAME=FILE", help="your own prompt files")
    parser.add_argument(
        "--register",
        type=Path,
        metavar="JSON",
        help="dataset_info.json that gets the entry (default: OUT/dataset_info.json)",
    )
    limit = parser.add_argument_group("token limit of training")
    limit.add_argument("--max_tokens", type=int, metavar="N", help="report rows over this; needs --model, --template")
    limit.add_argument("--drop_long", action="store_true", help="drop candidates, then rows, that are over it")
    limit.add_argument("--model", help="whose tokenizer and processor count")
    limit.add_argument("--template", help="LLaMA-Factory's chat template")
    add_picture_limits(limit)


def _r3v(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..recipes import r3v
    from ..recipes.lengths import fitting
    from ..recipes.records import RecipeError

    options = r3v.R3VOptions.from_dict(_given(r3v.R3VOptions, arguments))
    if not arguments.samples and not options.letters_only:
        raise RecipeError("Give --samples, or --letters_only for bare answers.")
    questions, prompts = read_questions(arguments.questions), _prompts(arguments)
    pool = _checked(questions, arguments.samples, arguments.profile)
    warmup = [] if arguments.warmup is None else r3v.warmup_examples(arguments.warmup)

    def make(limit: TokenLimit | None) -> Made:
        examples = r3v.build(questions, pool, options, prompts, arguments.seed, limit=limit)
        return [*fitting(warmup, limit), *examples], r3v.survey(questions, pool, options)

    return _make(arguments, make)


def _stl(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..generate.jobs import read_samples
    from ..recipes import stl
    from ..recipes.records import RecipeError

    options = stl.STLOptions.from_dict(_given(stl.STLOptions, arguments))
    if not arguments.answers and not options.letters_only:
        raise RecipeError("Give --answers, or --letters_only for bare answers.")
    if arguments.refutations and len(arguments.refutations) != len(arguments.answers):
        raise RecipeError("Give one file of --answers and one of --refutations for each iteration, in the same order.")
    questions, prompts = read_questions(arguments.questions), _prompts(arguments)
    answers = _checked(questions, arguments.answers, arguments.profile or _stl_profile(options))
    if options.negatives and not options.letters_only and not arguments.refutations:
        newest = [item for item in answers if item.iteration == len(arguments.answers) - 1]
        return _write_requests(arguments, stl.refute_requests(questions, newest, prompts, options))
    refutations = {number: read_samples(path) for number, path in enumerate(arguments.refutations)}

    def make(limit: TokenLimit | None) -> Made:
        built = stl.build(questions, answers, refutations, options, prompts, arguments.seed, limit=limit)
        return built.examples, {f"skipped: {reason}": count for reason, count in built.skipped.items()}

    return _make(arguments, make)


def _stl_profile(options: STLOptions) -> str:
    return ("stl" if options.caption else "stl-nocaption") + ("-published" if options.quirks == "published" else "")


def _given(kind: type[Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that are options of the builder."""
    return {field.name: vars(arguments)[field.name] for field in fields(kind)}


def _prompts(arguments: argparse.Namespace) -> Prompts:
    from ..recipes.prompts import Prompts

    return Prompts.load(prompt_files(arguments.prompt))


def _checked(questions: Sequence[Question], files: Sequence[Path], profile: str) -> list[Checked]:
    from ..generate.jobs import read_samples
    from ..recipes.records import verify_samples

    pool: list[Checked] = []
    for iteration, path in enumerate(files):
        checked = verify_samples(questions, read_samples(path), profile, iteration)
        right = sum(item.verdict.correct for item in checked)
        unparsed = sum(not item.verdict.parsed for item in checked)
        print(f"{path} (iteration {iteration}): {len(checked)} samples, {right} right, {unparsed} unparsed")
        pool += checked
    return pool


def _make(arguments: argparse.Namespace, make: Callable[[TokenLimit | None], Made]) -> int:
    """Builds, minds the token limit, writes and tells what was made."""
    from ..recipes.examples import write_dataset

    examples, counts = make(None)
    limit = token_limit(arguments)
    if limit is not None:
        _report_long(examples, limit)
        if arguments.drop_long:
            everything = len(examples)
            examples, counts = make(limit)
            print(f"left out because of their length: {everything - len(examples)}")
    path = write_dataset(arguments.out, arguments.name, examples, register=arguments.register)
    for name, count in counts.items():
        print(f"{name}: {count}")
    kinds = Counter(example.kind for example in examples)
    print(
        f"{path}: {len(examples)} examples ({', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))})"
    )
    print(f"registered as {arguments.name!r} in {arguments.register or path.parent / 'dataset_info.json'}")
    return 0


def _report_long(examples: Sequence[Example], limit: TokenLimit) -> None:
    from tqdm import tqdm

    from ..recipes.lengths import too_long

    over = too_long(tqdm(examples, desc="counting tokens", unit="row", leave=False, disable=None), limit)
    print(f"over {limit.limit} tokens, which training would cut: {len(over)} of {len(examples)} examples")
    for item in sorted(over, key=lambda item: -item.tokens)[:_SHOWN]:
        print(f"  {item.id}: {item.tokens} tokens")


def _write_requests(arguments: argparse.Namespace, requests: Sequence[Request]) -> int:
    from ..files import write_jsonl

    path = arguments.out / f"{arguments.name}_refute_requests.jsonl"
    write_jsonl(path, (request.to_row() for request in requests))
    print(f"{path}: {len(requests)} refutations to ask for")
    print("Sample them with the same model (`mmself sample --requests`) and build again with --refutations.")
    return 0
