# SPDX-License-Identifier: Apache-2.0
"""The set of prompts and its replacement by the user's files."""

import pytest

from llamafactory_mmself.prompts import PromptError
from llamafactory_mmself.recipes.prompts import FILES, Prompts


def test_every_prompt_is_packaged(prompts):
    assert set(vars(prompts)) == set(FILES)


def test_a_users_file_replaces_one(tmp_path, prompts):
    file = tmp_path / "mine.txt"
    file.write_text("version: 7\n\nThink. {question}\n")
    own = Prompts.load({"cot": file})
    assert own.cot.text == "Think. {question}" and own.select == prompts.select
    assert own.digest != prompts.digest and own.digest_of("select") == prompts.digest_of("select")
    assert own.digest_of("cot").startswith("7-")
    assert own.digest_of("select", "candidate") == prompts.digest_of("select", "candidate")


def test_wrong_files_and_names_are_told(tmp_path):
    with pytest.raises(PromptError, match=r"no prompt 'cott'. The prompts are: direct, cot, refine"):
        Prompts.load({"cott": "x.txt"})
    file = tmp_path / "mine.txt"
    file.write_text("version: 7\n\nThink.\n")
    with pytest.raises(PromptError, match=r"does not use \{question\}"):
        Prompts.load({"cot": file})
