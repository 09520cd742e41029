# SPDX-License-Identifier: Apache-2.0
"""`mmself build sherlock`: data of Sherlock's rounds, step by step; `mmself loop` does the same in one go."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .pictures import add_picture_limits
from .sample import add_engine, engine_config, engine_file, prompt_files, token_limit


if TYPE_CHECKING:
    from ..data.answers import PrefixReading
    from ..recipes.sherlock_options import SherlockOptions
    from ..recipes.sherlock_pairs import Begun, Better


_EPILOG = """
examples, in the order of the rounds:
  mmself build sherlock split --questions llava_cot_train.json --n 10000 --seed 42 --out data --name sherlock
      writes and registers sherlock_a, sherlock_b (both can be trained on as they are) and sherlock_rest
  mmself sample --questions data/sherlock_b.json --prompt sherlock_ask --model saves/r0 ... --out r0.jsonl
  mmself build sherlock sft --questions data/sherlock_b.json --answers r0.jsonl --out data --name sherlock_sft

  mmself build sherlock offline --questions data/sherlock_a.json --out data --name sherlock_offline
      without --continuations: writes beginnings of responses, data/sherlock_offline_beginnings.jsonl
  mmself sample --requests data/sherlock_offline_beginnings.jsonl --model saves/sft ... --out tails.jsonl
  mmself build sherlock offline ... --continuations tails.jsonl

  mmself build sherlock candidates --questions data/sherlock_rest.json --model saves/offline ... --judge judge.yaml \\
      --pairs 5000 --out data --name sherlock_online
  mmself build sherlock online --questions data/sherlock_rest.json --chains data/sherlock_online_chains.jsonl ...
      like offline: first without, then with --continuations

  mmself build sherlock import --data published.json --out data --name theirs
"""


def add(recipes: Any) -> None:
    """Adds the recipe to the recipes of `mmself build`."""
    sherlock = recipes.add_parser(
        "sherlock",
        help="self-correction: supervised rows, preference rows offline and online",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = sherlock.add_subparsers(required=True, metavar="PART")
    _add_split(parts.add_parser("split", help="draw two disjoint samples of annotated questions"))
    _add_sft(parts.add_parser("sft", help="annotated responses, also as corrections of a model's answers"))
    _add_offline(parts.add_parser("offline", help="annotated responses over responses that went wrong"))
    _add_candidates(parts.add_parser("candidates", help="sample answers and corrections of unlabelled questions"))
    _add_online(parts.add_parser("online", help="corrections that agree over responses that went wrong"))
    _add_import(parts.add_parser("import", help="read preference rows in the published format"))


def _add_common(parser: argparse.ArgumentParser, questions: str) -> None:
    parser.add_argument("--questions", required=True, type=Path, help=questions)
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.add_argument("--seed", type=int, default=0, help="of samples, draws and orders (default: 0)")
    parser.add_argument("--prompt", nargs="+", default=[], metavar="NAME=FILE", help="your own prompt files")


def _add_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tags", nargs="+", metavar="NAME", help="sections (default: SUMMARY ... CONCLUSION)")
    parser.add_argument("--register", type=Path, metavar="JSON", help="dataset_info.json that gets the entry")
    limit = parser.add_argument_group("token limit of training")
    limit.add_argument("--max_tokens", type=int, metavar="N", help="drop rows over this; needs --model, --template")
    limit.add_argument("--model", help="whose tokenizer and processor count")
    limit.add_argument("--template", help="LLaMA-Factory's chat template")
    add_picture_limits(limit)


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--continuations", type=Path, metavar="JSONL", help="how the model went on from the beginnings"
    )
    parser.add_argument("--iteration", type=int, default=0, metavar="N", help="round of that model, for the records")
    parser.add_argument(
        "--profile", default="tagged", help="verifier profile that says what is wrong (default: tagged)"
    )
    parser.add_argument("--preset", choices=("paper", "published"), help="what is drawn (default: paper)")
    parser.add_argument(
        "--cuts", nargs="+", type=int, metavar="PLACE", help="places to cut at (default: the preset's)"
    )
    parser.add_argument(
        "--noise", nargs=2, type=float, metavar=("LOW", "HIGH"), help="strength (default: the preset's)"
    )
    parser.add_argument(
        "--gates",
        nargs="*",
        metavar="NAME",
        help="what a rejected response has to be (default: tags differs wrong)",
    )


def _add_split(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, "annotated questions: `mmself data llava_cot`, `mmself toy responses`")
    parser.add_argument("--n", type=int, default=10_000, help="questions of each sample (default: 10000)")
    parser.set_defaults(run=_split)


def _add_sft(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, "annotated questions: sample B")
    _add_rows(parser)
    parser.add_argument(
        "--answers", required=True, type=Path, metavar="JSONL", help="one answer of the R0 model to each"
    )
    parser.set_defaults(run=_sft)


def _add_offline(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, "annotated questions: sample A")
    _add_rows(parser)
    _add_pairs(parser)
    parser.set_defaults(run=_offline)


def _add_candidates(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, "questions; their answers are not looked at")
    parser.add_argument("--tags", nargs="+", metavar="NAME", help="sections (default: SUMMARY ... CONCLUSION)")
    parser.add_argument("--profile", default="tagged", help="verifier profile that reads answers (default: tagged)")
    parser.add_argument("--judge", type=Path, metavar="YAML", help="engine that compares answers in other words")
    parser.add_argument("--pairs", type=int, help="stop when so many questions have agreed (default: 5000)")
    parser.add_argument("--corrections", type=int, help="of each answer (default: 3)")
    parser.add_argument("--chunk", type=int, help="questions sampled together (default: 512)")
    add_engine(parser.add_argument_group("who answers and corrects"))
    sampling = parser.add_argument_group("how to sample")
    sampling.add_argument("--temperature", type=float, default=0.7, help="default: 0.7")
    sampling.add_argument("--top_p", type=float, default=1.0, help="nucleus; 1 is off (default: 1.0)")
    sampling.add_argument("--max_new_tokens", type=int, default=2048, help="default: 2048")
    parser.set_defaults(run=_candidates)


def _add_online(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, "the questions that `candidates` was given")
    _add_rows(parser)
    _add_pairs(parser)
    parser.add_argument("--chains", required=True, type=Path, metavar="JSONL", help="what `candidates` wrote")
    parser.set_defaults(run=_online)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, type=Path, help="JSON or JSONL of published rows")
    parser.add_argument("--out", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.add_argument("--media_dir", type=Path, help="folder that picture paths start from (default: the file's)")
    parser.add_argument(
        "--reading", choices=("full", "suffix"), help="whether responses hold their prefix (default: found out)"
    )
    parser.add_argument("--register", type=Path, metavar="JSON", help="dataset_info.json that gets the entry")
    parser.set_defaults(run=_import)


def _split(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..recipes.prompts import SherlockPrompts
    from ..recipes.sherlock import split, write_split

    prompts = SherlockPrompts.load(prompt_files(arguments.prompt))
    found = split(read_questions(arguments.questions), arguments.n, arguments.seed)
    for part, questions in found._asdict().items():
        if questions:
            path = write_split(arguments.out, f"{arguments.name}_{part}", questions, prompts)
            print(f"{path}: {len(questions):,} questions")
    return 0


def _sft(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..generate.jobs import read_samples
    from ..recipes.examples import write_dataset
    from ..recipes.prompts import SherlockPrompts
    from ..recipes.sherlock import correction_rows

    built = correction_rows(
        read_questions(arguments.questions),
        read_samples(arguments.answers),
        _options(arguments),
        SherlockPrompts.load(prompt_files(arguments.prompt)),
        arguments.seed,
        limit=token_limit(arguments),
    )
    path = write_dataset(arguments.out, arguments.name, built.examples, register=arguments.register)
    return _tell(path, len(built.examples), built.skipped)


def _offline(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..recipes.sherlock_pairs import annotated_beginnings, annotated_better

    options = _options(arguments)
    begun, skipped = annotated_beginnings(read_questions(arguments.questions), options)
    return _pairs("offline", arguments, options, begun, annotated_better(begun), skipped)


def _online(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..recipes.sherlock_online import chain_beginnings, chain_better, read_chains, unlabelled

    options, chains = _options(arguments), read_chains(arguments.chains)
    questions = unlabelled(read_questions(arguments.questions, labelled=False))
    begun = chain_beginnings(chains, questions, options)
    return _pairs(
        "online", arguments, options, begun, chain_better(chains, questions, options, arguments.iteration), {}
    )


def _pairs(
    kind: str,
    arguments: argparse.Namespace,
    options: SherlockOptions,
    begun: Sequence[Begun],
    better: Sequence[Better],
    skipped: Mapping[str, int],
) -> int:
    """Writes beginnings for the model to go on from, or the rows when it has."""
    from ..generate.jobs import read_samples
    from ..recipes.prompts import SherlockPrompts
    from ..recipes.sherlock_pairs import build_pairs, make_tails, read_tails, write_pairs, write_tails

    prompts = SherlockPrompts.load(prompt_files(arguments.prompt))
    beginnings = arguments.out / f"{arguments.name}_beginnings.jsonl"
    if arguments.continuations is None:
        folder = arguments.out / f"{arguments.name}_disturbed"
        tails = make_tails(begun, folder, options, prompts, arguments.seed)
        write_tails(beginnings, tails)
        print(f"{beginnings}: {len(tails)} beginnings of responses, {len(begun) - len(tails)} could not be cut")
        print("Let the model go on from them (`mmself sample --requests`) and build again with --continuations.")
        return 0
    built = build_pairs(
        kind,
        better,
        read_tails(beginnings),
        read_samples(arguments.continuations),
        options,
        prompts,
        arguments.profile,
        arguments.seed,
        iteration=arguments.iteration,
        limit=token_limit(arguments),
    )
    path = write_pairs(arguments.out, arguments.name, built.pairs, register=arguments.register)
    return _tell(path, len(built.pairs), {**skipped, **built.skipped})


def _candidates(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from ..data.questions import read_questions
    from ..generate.config import EngineConfig
    from ..generate.jobs import SampleJob, read_samples
    from ..generate.seeds import derived_seed
    from ..generate.types import SamplingParams
    from ..loop.sampler import Sampler
    from ..recipes.prompts import SherlockPrompts
    from ..recipes.sherlock_online import JUDGING, Ask, gather, unlabelled, write_chains

    folder = arguments.out / f"{arguments.name}_candidates"
    params = SamplingParams(
        temperature=arguments.temperature, top_p=arguments.top_p, max_new_tokens=arguments.max_new_tokens
    )
    judge = None if arguments.judge is None else engine_file(arguments.judge)

    def sampled(sampler: Sampler, config: EngineConfig, params: SamplingParams) -> Ask:
        def ask(name: str, requests: Any) -> Any:
            # A seed of its own for each turn: corrections that agree because of equal dice would show nothing.
            seed = derived_seed(arguments.seed, name)
            return read_samples(sampler.run(SampleJob(requests, params, seed, folder / f"{name}.jsonl"), config))

        return ask

    # LLaMA-Factory logs to standard output
    with contextlib.redirect_stdout(sys.stderr), Sampler() as sampler:
        found = gather(
            unlabelled(read_questions(arguments.questions, labelled=False)),
            sampled(sampler, engine_config(arguments), params),
            _options(arguments),
            SherlockPrompts.load(prompt_files(arguments.prompt)),
            arguments.profile,
            arguments.seed,
            judge=None if judge is None else sampled(sampler, judge, JUDGING),
        )
    path = arguments.out / f"{arguments.name}_chains.jsonl"
    write_chains(path, found.chains)
    for reason, count in found.counts.items():
        print(f"{reason}: {count}")
    print(f"{path}: {len(found.chains)} questions whose corrections agree")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    places = (arguments.data, arguments.out, arguments.name)
    return import_rows(*places, arguments.media_dir, arguments.reading, arguments.register)


def import_rows(
    data: Path,
    out: Path,
    name: str,
    media_dir: Path | None,
    reading: PrefixReading | None,
    register: Path | None = None,
) -> int:
    """Reads published preference rows, writes them as a data set, and tells how they were read."""
    from ..data.faults import format_table
    from ..recipes.sherlock_import import read_published
    from ..recipes.sherlock_pairs import write_pairs

    found = read_published(data, media_dir=media_dir, reading=reading)
    meaning = {"full": "whole, prefix included", "suffix": "what follows the prefix"}
    read_as = meaning.get(str(found.reading), "whole: no row has a prefix")
    shown = ", ".join(f"{count} rows show {name}" for name, count in found.votes.items())
    print(f"{data}: responses read as {read_as}" + (f" ({shown})" if shown else ""))
    if found.shared:
        print(f"rows whose two responses share one prefix: {found.shared}")
    if found.unweighted:
        print(f"rows without `weights`: {found.unweighted}; train with `static_weight`")
    if found.faults:
        print(format_table(found.faults), file=sys.stderr)
    path = write_pairs(out, name, found.rows, register=register)
    return _tell(path, len(found.rows), {})


def _options(arguments: argparse.Namespace) -> SherlockOptions:
    from ..recipes.sherlock_options import SherlockOptions

    names = [field.name for field in fields(SherlockOptions)]
    given = {name: vars(arguments)[name] for name in names if vars(arguments).get(name) is not None}
    return SherlockOptions.from_dict(given)


def _tell(path: Path, rows: int, skipped: Mapping[str, int]) -> int:
    for reason, count in skipped.items():
        print(f"skipped: {reason}: {count}")
    print(f"{path}: {rows} rows")
    return 0
