# SPDX-License-Identifier: Apache-2.0
"""Questions with known answers: what a row says, and which rows are refused."""

import json

import pytest
from PIL import Image

from llamafactory_mmself.data.questions import Question, read_questions, write_questions
from llamafactory_mmself.files import FileError


ROW = {"id": "q1", "question": "How many?", "choices": ["1", "2"], "answer": "B", "images": ["a.png"]}


@pytest.fixture
def read(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def read_rows(*rows, name="rows.json"):
        text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(list(rows))
        (tmp_path / name).write_text(text)
        return read_questions(tmp_path / name)

    return read_rows


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_rows_are_read(read, tmp_path, name) -> None:
    (question,) = read({**ROW, "domain": "shapes"}, name=name)
    assert (question.id, question.text, question.answer, question.choices) == ("q1", "How many?", "B", ("1", "2"))
    assert question.images == (str(tmp_path / "a.png"),) and question.extra == {"domain": "shapes"}
    assert question.block == "How many?\nChoices:\n(A) 1\n(B) 2" and question.placeholders == "<image>\n"


def test_what_is_written_is_read_again(read, tmp_path) -> None:
    questions = read(ROW, {**ROW, "id": "q2", "choices": None, "answer": "12", "unit": "g"})
    write_questions(tmp_path / "again.json", questions)
    assert read_questions(tmp_path / "again.json") == questions
    row = json.loads((tmp_path / "again.json").read_text())[1]
    assert row["images"] == ["a.png"]
    assert row["conversations"][0]["value"] == "<image>\nHow many? (Unit: g)"


def test_a_letter_may_stand_in_brackets_and_small(read) -> None:
    assert [item.answer for item in read({**ROW, "answer": "(b)"})] == ["B"]


def test_a_row_without_a_question_is_asked_what_its_human_turn_says(read) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat now?"}, {"from": "gpt", "value": "2"}]
    row = {name: value for name, value in ROW.items() if name != "question"}
    assert read({**row, "conversations": turns})[0].text == "What now?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, r"row 1, field `id`: is missing"),
        ({"id": "q1"}, r"row 1, field `id`: 'q1' is row 0's already"),
        ({"answer": ""}, r"row 1, field `answer`: is missing"),
        ({"answer": "C"}, r"row 1, field `answer`: 'C' is not among the options \(A\) to \(B\)"),
        ({"choices": ["1"]}, r"row 1, field `choices`: a list of 2 to 26"),
        ({"question": ""}, r"row 1, field `question`: is missing"),
        ({"images": ["gone.png"]}, r"row 1, field `images`: there is no file .*gone\.png"),
    ],
)
def test_faulty_rows_are_named(read, change, message) -> None:
    with pytest.raises(FileError, match=message):
        read(ROW, {**ROW, "id": "q2", **change})


def test_files_that_hold_no_rows(tmp_path) -> None:
    for text, message in (("{}", "a list of rows is expected"), ("[1]", "row 0: a JSON object"), ("[", "line 1")):
        (tmp_path / "rows.json").write_text(text)
        with pytest.raises(FileError, match=message):
            read_questions(tmp_path / "rows.json")


def test_letters_follow_the_choices() -> None:
    assert Question("q", "?", "A", choices=("x", "y", "z")).letters == "ABC" and Question("q", "?", "1").letters == ""
