# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a file or a reply, readers give a value or say what is wrong in one sentence of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamafactory_mmself.data.questions import read_questions
from llamafactory_mmself.data.tagged import read_tagged
from llamafactory_mmself.files import FileError, read_jsonl
from llamafactory_mmself.generate.config import read_engine
from llamafactory_mmself.generate.jobs import read_samples
from llamafactory_mmself.generate.replies import ReplyError, parse_correction, parse_scores
from llamafactory_mmself.generate.score_text import parse_description, parse_score
from llamafactory_mmself.generate.service_config import load_services
from llamafactory_mmself.generate.teacher_config import read_teacher_config
from llamafactory_mmself.generate.types import EngineError
from llamafactory_mmself.loop.recipe import load_recipe
from llamafactory_mmself.loop.steps import LoopError
from llamafactory_mmself.recipes.published.settings import READERS, convert
from llamafactory_mmself.recipes.records import RecipeError
from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.language import parse_caption
from llamafactory_mmself.verify.sentences import sentences


# Pieces that make texts look like what is expected, so that the depths are reached, too.
PIECES = st.sampled_from(
    (
        *(
            "Score:",
            "7",
            "0.5",
            "{",
            "}",
            "[",
            "]",
            '"scores"',
            '"score"',
            ":",
            ",",
            "\n",
            "final_rationale",
            "```json",
        ),
        *("<SUMMARY>", "</SUMMARY>", "<CONCLUSION>", "The top row holds ", "a red circle", "nothing", ".", "\x00"),
    )
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=30).map("".join))
KEYS = st.sampled_from(
    (
        *("id", "question", "choices", "answer", "images", "conversations", "from", "value", "method", "train"),
        *("engine", "name", "api_base", "judge", "painter", "iterations", "sampling", "build", "rounds", "request"),
        *("k", "text", "verifier", "template"),
    )
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
EASY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@EASY
@pytest.mark.parametrize("quirks", ["fixed", "published"])
@given(text=TEXTS)
def test_replies(quirks: Any, text: str) -> None:
    score = parse_score(text, quirks=quirks)
    assert score is None or (quirks == "published" or 0 <= score <= 10)
    for parse in (lambda: parse_scores(text, 2, quirks=quirks), lambda: parse_correction(text, quirks=quirks)):
        try:
            parse()
        except ReplyError as error:
            assert error.reason
    parse_description(text)
    assert all(section.name for section in read_tagged(text).sections)
    try:
        parse_caption(text)
    except ToyWorldError as error:
        assert str(error)


@EASY
@given(TEXTS)
def test_sentences_are_parts_of_their_text(text: str) -> None:
    last = 0
    for sentence in sentences(text):
        assert last <= sentence.start < sentence.end <= len(text)
        last = sentence.end


READ: dict[str, tuple[Callable[[Path], Any], type[ValueError]]] = {
    "questions": (read_questions, FileError),
    "samples": (lambda path: read_samples(path.with_suffix(".jsonl")), FileError),
}


@EASY
@pytest.mark.parametrize("name", READ)
@given(rows=st.lists(st.dictionaries(KEYS, VALUES, max_size=6) | VALUES, max_size=3))
def test_rows(name: str, rows: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read, expected = READ[name]
    try:
        read(path)
    except expected as error:
        assert path.stem in str(error)


SETTINGS: dict[str, tuple[Callable[[Path], Any], tuple[type[ValueError], ...]]] = {
    "recipe": (load_recipe, (LoopError, FileError)),
    "engine": (read_engine, (EngineError, FileError)),
    "services": (load_services, (EngineError, FileError)),
    "teacher": (read_teacher_config, (ValueError,)),
    **{
        f"published {name}": (lambda path, name=name: convert(name, path), (RecipeError, FileError))
        for name in READERS
    },
}


def test_keys_that_are_no_words(tmp_path: Path) -> None:
    (tmp_path / "engine.yaml").write_text("0: 1\n")
    with pytest.raises(EngineError, match="0"):
        read_engine(tmp_path / "engine.yaml")


@EASY
@pytest.mark.parametrize("name", SETTINGS)
@given(values=st.dictionaries(KEYS, VALUES, max_size=6) | VALUES)
def test_yaml(name: str, values: Any, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    read, expected = SETTINGS[name]
    try:
        read(path)
    except expected as error:
        assert str(error)


@EASY
@pytest.mark.parametrize("name", SETTINGS)
@given(content=st.binary(max_size=60))
def test_bytes_that_are_no_yaml(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    read, expected = SETTINGS[name]
    try:
        read(path)
    except expected as error:
        assert str(error)


@EASY
@given(content=st.binary(max_size=60))
def test_bytes_that_are_no_json(content: bytes, tmp_path: Path) -> None:
    for name in ("rows.json", "rows.jsonl"):
        (tmp_path / name).write_bytes(content)
    for read in (lambda: read_questions(tmp_path / "rows.json"), lambda: list(read_jsonl(tmp_path / "rows.jsonl"))):
        try:
            read()
        except FileError as error:
            assert "rows.json" in str(error)
