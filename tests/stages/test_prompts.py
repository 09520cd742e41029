# SPDX-License-Identifier: Apache-2.0
"""Prompt files: placeholders, versions, and what is said about files that cannot be used."""

import pytest

from llamafactory_mmself.prompts import FOLDER, PromptError, load_prompt


PLACEHOLDERS = {"question", "response"}


@pytest.fixture
def load(tmp_path):
    def from_text(text):
        file = tmp_path / "prompt.txt"
        file.write_bytes(text.encode())
        return load_prompt(file, "unused.txt", PLACEHOLDERS)

    return from_text


def test_the_packaged_correction_prompt_is_complete():
    prompt = load_prompt(None, "sherlock_correction.txt", PLACEHOLDERS)
    assert prompt.file == str(FOLDER / "sherlock_correction.txt")
    filled = prompt.fill(question="How many?", response="<SUMMARY> ... </SUMMARY>")
    assert filled.count("How many?") == filled.count("<SUMMARY> ... </SUMMARY>") == 1
    assert filled == filled.strip() and "version" not in filled


def test_values_are_not_read_as_prompts(load):
    prompt = load("version: 2\n\nQ {question} A {response} {}")
    assert prompt.fill(question="{response}", response="{x}") == "Q {response} A {x} {}"


def test_blanks_that_editors_add_or_remove_change_nothing(load):
    plain = load("version: 2\n\nQ {question}\n\nA {response}")
    assert load("version: 2\r\n\r\nQ {question} \r\n\t\r\nA {response}\r\n\r\n") == plain
    assert load("version: 2\n\nQ {question}\nA {response}").digest != plain.digest
    assert load("version: 3\n\nQ {question}\n\nA {response}").digest != plain.digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Q {question} A {response}", "has to start with a line `version: <word>`"),
        ("version: 1\nQ {question} A {response}", "and a blank line"),
        ("version: 1\n\nQ {question}", r"does not use \{response\}; its placeholders are \{question\}, \{response\}"),
        ("version: 1\n\n{question} {response} {image}", r"uses \{image\}, which has no value"),
    ],
)
def test_files_that_cannot_be_used_say_why(load, text, words):
    with pytest.raises(PromptError, match=words):
        load(text)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(PromptError, match=r"nothing\.txt cannot be read"):
        load_prompt(tmp_path / "nothing.txt", "unused.txt", PLACEHOLDERS)
