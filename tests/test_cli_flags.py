# SPDX-License-Identifier: Apache-2.0
"""Flags of all commands are spelt in one way, and LLaMA-Factory's two ways to type them are taken."""

import argparse
import re
from collections.abc import Iterator

import pytest

from llamafactory_mmself.cli import make_parser


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


ALL = {parser.prog: parser for parser in parsers(make_parser())}


def flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]


@pytest.mark.parametrize("name", ALL)
def test_flags_have_underscores(name: str) -> None:
    assert all(re.fullmatch(r"-h|--[a-z0-9]+(_[a-z0-9]+)*", flag) for flag in flags(ALL[name]))


def test_every_command_is_looked_at() -> None:
    assert {"mmself loop", "mmself build r3v", "mmself build stl", "mmself select", "mmself toy start"} <= ALL.keys()
    assert {"mmself build sherlock candidates", "mmself build ares correct", "mmself correct"} <= ALL.keys()
    assert {"mmself build ovip", "mmself serve judge", "mmself serve painter"} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_epilogs_and_help_texts_name_flags_that_are_there(name: str) -> None:
    known = {flag for parser in ALL.values() for flag in flags(parser)}
    named = re.findall(r"(?<![\w-])--[a-z][\w-]*", ALL[name].format_help())
    assert set(named) <= known


def test_hyphens_are_taken_as_well() -> None:
    line = ["build", "r3v", "--questions", "q.json", "--out", "data", "--name", "my-rows"]
    either = [["--max_tokens=9", "--no_refine", "--profile", "stl-nocaption"]]
    either.append(["--max-tokens=9", "--no-refine", "--profile", "stl-nocaption"])
    first, second = (make_parser().parse_args([*line, *more]) for more in either)
    assert first == second and (first.max_tokens, first.refine) == (9, False)
    assert (first.name, first.profile) == ("my-rows", "stl-nocaption")
    chosen = make_parser().parse_args(["loop", "r3v-geoqa", "--dry-run", "--set", "a.b=--c-d"])
    assert (chosen.recipe, chosen.dry_run, chosen.set) == ("r3v-geoqa", True, ["a.b=--c-d"])
