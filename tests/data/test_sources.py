# SPDX-License-Identifier: Apache-2.0
"""Benchmarks in their published layouts become questions; what cannot be used is named."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from llamafactory_mmself import verify
from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import read_questions
from llamafactory_mmself.data.sources import Options, SourceError, read_source


def draw(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def angle(number, answer="B", **changes):
    row = {
        "id": f"train-{number}",
        "question": f"angle {number} = ()",
        "choices": ["58.0", "68.0", "78.0", "None"],
        "answer": answer,
        "image": f"D:\\geoQA-data\\images\\train-{number}.png",
    }
    return row | changes


@pytest.fixture
def geoqa(tmp_path):
    """A GeoQA folder: JSON lists that are called .jsonl."""
    folder = tmp_path / "geoQA-data"
    draw(*(folder / "images" / f"train-{number}.png" for number in range(4)))
    dump(folder / "train.jsonl", [angle(0), angle(1, "D"), angle(3, "A")])
    return folder


def read(name, folder, split="train", **options):
    return read_source(name, folder, split, Options(**options))


def test_geoqa(geoqa):
    questions = read("geoqa", geoqa).questions
    assert [(question.id, question.answer) for question in questions] == [
        ("train-0", "B"),
        ("train-1", "D"),
        ("train-3", "A"),
    ]
    assert questions[0].choices == ("58.0", "68.0", "78.0", "None")
    assert questions[0].images == (str(geoqa / "images" / "train-0.png"),)


def test_geoqa_prompts_get_their_answers_by_id(geoqa):
    (geoqa / "train.jsonl").unlink()
    prompts = [
        {
            "messages": [
                {"role": "user", "content": f"<image>angle {number}\nChoices:\n(A) 58.0\n(B) 68.0"},
                {"role": "assistant", "content": f"Answer: \n{letter}"},
            ],
            "images": [f"/private/images/train-{number}.png"],
        }
        for number, letter in ((0, "A"), (2, "B"), (3, "A"))
    ]
    dump(geoqa / "data" / "geoqa_train_base.json", prompts)
    questions = read("geoqa", geoqa).questions
    assert [(question.id, question.text, question.answer) for question in questions] == [
        ("train-0", "angle 0", "A"),
        ("train-2", "angle 2", "B"),
        ("train-3", "angle 3", "A"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"answer": "(e)"},
            r"train\.jsonl, row 1, field `answer`: the key '\(e\)' is not among the options \(A\) to \(D",
        ),
        ({"id": "train-0"}, r"row train-0, field `id`: this id comes twice"),
        ({"image": "train-9.png"}, r"row 1, field `image`: there is no picture 'train-9.png' in .*--images"),
        ({"choices": None}, r"row 1, field `choices`: a list of 2 or more texts is expected, found None"),
        ({"question": " "}, r"row 1, field `question`: a text is expected"),
        ({"id": None}, r"row 1, field `id`: a text is expected"),
    ],
)
def test_faulty_rows_are_named_or_dropped_and_counted(geoqa, change, message):
    dump(geoqa / "train.jsonl", [angle(0), angle(1) | change, angle(2)])
    with pytest.raises(SourceError, match=message):
        read("geoqa", geoqa)
    source = read("geoqa", geoqa, drop_invalid=True)
    assert [question.id for question in source.questions] == ["train-0", "train-2"]
    assert list(source.dropped.values()) == [1] and source.dropped.keys() == source.examples.keys()


def test_broken_files_are_named(geoqa):
    (geoqa / "train.jsonl").write_text('[{"id": ')
    with pytest.raises(SourceError, match=r"train\.jsonl, line 1, column"):
        read("geoqa", geoqa)
    with pytest.raises(SourceError, match=r"has none of the files test\.jsonl"):
        read("geoqa", geoqa, "test")
    with pytest.raises(SourceError, match="is not a folder"):
        read("geoqa", geoqa / "nowhere")
    dump(geoqa / "train.jsonl", [angle(0, "Z")])
    with pytest.raises(SourceError, match=r"no question can be used.*'Z' is not among"):
        read("geoqa", geoqa, drop_invalid=True)


def problem(answer, choices=None, unit=None, **more):
    facts = {"question": "How many?", "choices": choices, "answer": answer, "unit": unit, "grade": 3}
    return facts | {"ques_type": "free_text", "ans_type": "integer_number", "table": "x"} | more


@pytest.fixture
def tabmwp(tmp_path):
    """A TabMWP folder."""
    rows = {"8": problem("12", unit="g"), "9": problem("surplus", ["shortage", "surplus"]), "10": problem("1,000")}
    dump(tmp_path / "problems_train.json", rows)
    draw(*(tmp_path / "tables" / f"{name}.png" for name in rows))
    return tmp_path


def test_tabmwp(tabmwp):
    weight, market, people = read("tabmwp", tabmwp).questions
    assert (weight.id, weight.choices, weight.answer) == ("8", None, "12")
    assert weight.extra == {"unit": "g", "ques_type": "free_text", "ans_type": "integer_number", "grade": 3}
    assert weight.block == "How many? (Unit: g)"
    assert (market.answer, market.choices, "unit" in market.extra) == ("B", ("shortage", "surplus"), False)
    assert verify.check("tabmwp", "Answer: 12 g", weight.answer, question=weight.block).correct
    assert verify.check("tabmwp", "Answer: surplus", market.answer, choices=market.choices).correct
    assert verify.check("tabmwp", "Answer: 1000", people.answer, choices=people.choices).correct


def test_tabmwp_answers_must_be_options(tabmwp):
    dump(tabmwp / "problems_train.json", {"8": problem("deficit", ["shortage", "surplus"])})
    with pytest.raises(SourceError, match=r"row 8, field `answer`: 'deficit' is not among the options"):
        read("tabmwp", tabmwp)
    (tabmwp / "problems_train.json").write_text('{"8": {}, "8": {}}')
    with pytest.raises(SourceError, match="'8' comes 2 times"):
        read("tabmwp", tabmwp)


def test_chartqa(tmp_path):
    folder = tmp_path / "ChartQA Dataset" / "val"
    draw(folder / "png" / "a.png", folder / "png" / "b.png")
    dump(folder / "val_human.json", [{"imgname": "a.png", "query": "Which year?", "label": "2010"}])
    dump(folder / "val_augmented.json", [{"imgname": "b.png", "query": "How many?", "label": 7}])
    (question,) = read("chartqa", tmp_path, "val").questions
    assert (question.id, question.answer, question.choices) == ("val-human-0", "2010", None)
    both = read("chartqa", tmp_path / "ChartQA Dataset", "val", augmented=True).questions
    assert [(question.id, question.answer) for question in both] == [("val-human-0", "2010"), ("val-augmented-0", "7")]


@pytest.mark.parametrize("official", [True, False])
def test_clevr(tmp_path, official):
    draw(tmp_path / "CLEVR_v1.0" / "images" / "train" / "CLEVR_train_000001.png")
    name = "image_filename" if official else "filename"
    rows = [{name: "CLEVR_train_000001.png", "question": "Subtract all cubes. How many are left?", "answer": 4}]
    dump(tmp_path / "clevr-math-train.json", {"info": {}, "questions": rows} if official else rows)
    (question,) = read("clevr", tmp_path).questions
    assert (question.id, question.answer) == ("train-0", "4")
    dump(tmp_path / "clevr-math-train.json", [rows[0] | {"answer": "four"}])
    with pytest.raises(SourceError, match="row 0, field `answer`: a whole number is expected, found 'four'"):
        read("clevr", tmp_path)


def lettered(name, letters="abcd"):
    text = "\n".join(["What is shown?", "Select the right one of these:", *(f"({x}) thing {x}" for x in letters)])
    image = f"playground/data/m3cot/images/{name}.png"
    return {"question_id": name, "image": image, "text": text, "category": "physics-Forces"}


@pytest.fixture
def stl(tmp_path):
    """The files of STL for two domains."""
    folder = tmp_path / "playground" / "data" / "folder"
    lines(folder / "questions_train_science_natural.jsonl", [lettered("p-1"), lettered("p-2"), lettered("p-3", "ab")])
    lines(folder / "questions_train_commonsense.jsonl", [lettered("c-1")])
    dump(folder / "correct_answers_train.json", {"p-1": "(b)", "p-2": "(e)", "p-3": "(a)", "c-1": "(d)", "m-1": "(a)"})
    draw(*(folder / "images" / f"{name}.png" for name in ("p-1", "p-2", "p-3", "c-1")))
    return folder


def test_m3cot_as_stl_has_it(stl):
    with pytest.raises(SourceError, match=r"science_natural.jsonl, row 1, field `text`: the key '\(e\)' is not among"):
        read("m3cot", stl, domain="science_natural")
    source = read("m3cot", stl, domain="science_natural", drop_invalid=True)
    first, last = source.questions
    assert source.dropped == {"key not among the options": 1}
    assert (first.text, first.answer, last.answer) == ("What is shown?", "B", "A")
    assert first.choices == ("thing a", "thing b", "thing c", "thing d") and last.choices == ("thing a", "thing b")
    assert first.extra == {"domain": "science_natural", "topic": "physics-Forces"}
    assert {question.id for question in read("m3cot", stl, drop_invalid=True).questions} == {"p-1", "p-3", "c-1"}
    with pytest.raises(SourceError, match="no domain 'mathematics', only commonsense, science_natural"):
        read("m3cot", stl, domain="mathematics")


def test_m3cot_ids_without_key_and_long_options(stl):
    row = lettered("c-2") | {"text": "Look:\n(a) is marked. Which?\nSelect one:\n(a) red\nand blue\n(b) green"}
    lines(stl / "questions_train_commonsense.jsonl", [row])
    with pytest.raises(SourceError, match=r"row 0, field `question_id`: 'c-2' has no key in .*correct_answers_train"):
        read("m3cot", stl, domain="commonsense")
    dump(stl / "correct_answers_train.json", {"c-2": "(a)"})
    draw(stl / "images" / "c-2.png")
    (question,) = read("m3cot", stl, domain="commonsense").questions
    assert question.choices == ("red\nand blue", "green")
    assert question.text == "Look:\n(a) is marked. Which?"


def official(name, topic="natural-science", **more):
    facts = {"id": name, "category": "physics", "question": "What?", "choices": ["x", "y"], "answer": "B"}
    return facts | {"context": "", "domain": "science", "topic": topic, "image": f"data/images/{name}.png"} | more


def test_m3cot_as_it_is_published(tmp_path):
    rows = [official("a"), official("b", "social-science", context="It is 1900."), official("c", domain="commonsense")]
    lines(tmp_path / "data" / "dev.jsonl", rows)
    draw(*(tmp_path / "data" / "images" / f"{name}.png" for name in "abc"))
    assert [question.id for question in read("m3cot", tmp_path, "dev").questions] == ["a", "b", "c"]
    (question,) = read("m3cot", tmp_path, "dev", domain="science_social").questions
    assert (question.text, question.answer) == ("Context: It is 1900.\nWhat?", "B")
    assert question.extra == {"domain": "science", "topic": "social-science", "category": "physics"}
    assert len(read("m3cot", tmp_path, "dev", domain="science").questions) == 2


def test_m3cot_in_parquet_files(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "blue").save(buffer, "PNG")
    rows = [official(name, image={"bytes": buffer.getvalue(), "path": None}) for name in "ab"]
    (tmp_path / "src" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "src" / "data" / "test-00000-of-00001.parquet")
    source = read("m3cot", tmp_path / "src", "test", extracted=tmp_path / "out")
    assert [question.images for question in source.questions] == [(str(tmp_path / "out" / f"{x}.png"),) for x in "ab"]
    with Image.open(source.questions[0].images[0]) as picture:
        assert picture.size == (8, 8)


def test_the_command_writes_questions_and_registers_them(geoqa, tmp_path, capsys):
    out = tmp_path / "out"
    dump(geoqa / "train.jsonl", [angle(0), angle(1, "E"), angle(2), angle(3)])
    assert main(["data", "geoqa", "--src", str(geoqa), "--out", str(out)]) == 2
    assert "row 1, field `answer`" in capsys.readouterr().err and not (out / "geoqa_train.json").exists()
    assert main(["data", "geoqa", "--src", str(geoqa), "--out", str(out), "--drop_invalid", "--max", "2"]) == 0
    said = capsys.readouterr()
    assert "geoqa_train.json: 2 questions" in said.out and "left out: 1 (key not among the options)" in said.err
    questions = read_questions(out / "geoqa_train.json")
    assert [question.id for question in questions] == ["train-0", "train-2"]
    assert questions[0].images == (str(geoqa / "images" / "train-0.png"),)
    entry = json.loads((out / "dataset_info.json").read_text())["geoqa_train"]
    assert entry["file_name"] == "geoqa_train.json" and entry["columns"]["messages"] == "conversations"


def test_the_command_copies_pictures_when_asked(geoqa, tmp_path):
    out = tmp_path / "out"
    assert main(["data", "geoqa", "--src", str(geoqa), "--out", str(out), "--copy_images"]) == 0
    rows = json.loads((out / "geoqa_train.json").read_text())
    assert [row["images"] for row in rows] == [[f"images/geoqa_train/train-{number}.png"] for number in (0, 1, 3)]
    assert all((out / row["images"][0]).is_file() for row in rows)


def test_copies_of_two_splits_keep_apart_what_has_one_name(geoqa, tmp_path):
    out = tmp_path / "out"
    dump(geoqa / "test.jsonl", [angle(0)])
    assert main(["data", "geoqa", "--src", str(geoqa), "--out", str(out), "--copy_images", "--split", "train"]) == 0
    before = (out / "images" / "geoqa_train" / "train-0.png").read_bytes()
    Image.new("RGB", (5, 5), "green").save(geoqa / "images" / "train-0.png")
    assert main(["data", "geoqa", "--src", str(geoqa), "--out", str(out), "--copy_images", "--split", "test"]) == 0
    (picture,) = json.loads((out / "geoqa_test.json").read_text())[0]["images"]
    assert (out / "images" / "geoqa_train" / "train-0.png").read_bytes() == before != (out / picture).read_bytes()


def test_the_command_names_splits_that_are_not_there(geoqa, tmp_path, capsys):
    command = ["data", "geoqa", "--src", str(geoqa), "--out", str(tmp_path / "out"), "--split"]
    assert main([*command, "dev"]) == 2
    assert "geoqa has no split dev, only train, test" in capsys.readouterr().err
    assert main([*command, "test"]) == 2
    assert "has none of the files test.jsonl" in capsys.readouterr().err


def test_pictures_in_another_folder(geoqa, tmp_path):
    (geoqa / "images").rename(tmp_path / "pictures")
    questions = read("geoqa", geoqa, images=tmp_path / "pictures").questions
    assert questions[0].images == (str(tmp_path / "pictures" / "train-0.png"),)


def test_the_command_lists_the_profiles(capsys):
    assert main(["data", "profiles"]) == 0
    assert "tabmwp-published (version 1)" in capsys.readouterr().out


def thought(text="<CONCLUSION> B </CONCLUSION>"):
    head = "<SUMMARY> s </SUMMARY>\n\n<CAPTION> c </CAPTION>\n\n<REASONING> r </REASONING>\n\n"
    return {"from": "gpt", "value": head + text}


@pytest.fixture
def llava_cot(tmp_path):
    """A LLaVA-CoT folder: two good rows, one of them of two turns, and one whose response is not whole."""
    folder = tmp_path / "LLaVA-CoT-100k"
    draw(folder / "sqa" / "train" / "1" / "image.png", folder / "CLEVR_v1.0" / "images" / "2.png")
    asked = {"from": "human", "value": "<image>\nWhich one?\nA. x\nB. y"}
    rows = [
        {"id": "sqa/1", "image": "sqa/train/1/image.png", "conversations": [asked, thought()]},
        {
            "id": "clevr/2",
            "image": "CLEVR_v1.0/images/2.png",
            "conversations": [asked, thought("<CONCLUSION> 2 </CONCLUSION>"), asked, thought()],
        },
        {"id": "bad/3", "image": "sqa/train/1/image.png", "conversations": [asked, thought("<CONCLUSION> B")]},
    ]
    lines(folder / "train.jsonl", rows)
    return folder


def test_llava_cot(llava_cot):
    source = read("llava_cot", llava_cot, drop_invalid=True)
    first, second = source.questions
    assert (first.id, first.text, first.answer) == ("sqa/1", "Which one?\nA. x\nB. y", "B")
    assert first.extra["response"] == thought()["value"] and first.images[0].endswith("1/image.png")
    assert (second.answer, second.extra["turns"]) == ("2", 2)
    assert source.dropped == {"CONCLUSION is not closed": 1}
    with pytest.raises(
        SourceError, match="row 2, field `conversations`: the response is not whole: CONCLUSION is not"
    ):
        read("llava_cot", llava_cot)


def test_questions_from_llava_cot_can_be_split(llava_cot, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "llava_cot", "--src", str(llava_cot), "--out", str(out), "--drop_invalid"]) == 0
    questions = str(out / "llava_cot_train.json")
    assert (
        main(["build", "sherlock", "split", "--questions", questions, "--n", "1", "--out", str(out), "--name", "s"])
        == 0
    )
    info = json.loads((out / "dataset_info.json").read_text())
    assert {"s_a", "s_b"} <= set(info) and "s_rest" not in info
    ids = {row["id"] for name in "ab" for row in json.loads((out / f"s_{name}.json").read_text())}
    assert ids == {"sqa/1", "clevr/2"}


@pytest.fixture
def scienceqa(tmp_path):
    """A ScienceQA folder: a question with a picture, one without, one whose key is no option."""
    row = {"question": "Which?", "choices": ["a", "b", "c"], "answer": 1, "hint": "h", "subject": "natural science"}
    problems = {"1": row | {"image": "image.png"}, "2": row | {"image": None}, "3": row | {"answer": 7}}
    dump(tmp_path / "problems.json", problems)
    dump(tmp_path / "pid_splits.json", {"train": ["1", "2"], "test": ["3", "2"], "val": ["9"]})
    dump(tmp_path / "captions.json", {"captions": {"1": "A bowl."}})
    draw(tmp_path / "images" / "train" / "1" / "image.png")
    return tmp_path


def test_scienceqa(scienceqa):
    one, two = read("scienceqa", scienceqa).questions
    assert (one.id, one.answer, one.choices, len(one.images)) == ("1", "B", ("a", "b", "c"), 1)
    assert (one.context, one.options) == ("h A bowl.", "(A) a (B) b (C) c")
    assert (two.images, two.extra["subject"]) == ((), "natural science")
    with pytest.raises(SourceError, match="answer"):
        read("scienceqa", scienceqa, "test")
    kept = read("scienceqa", scienceqa, "test", drop_invalid=True)
    assert [question.id for question in kept.questions] == ["2"]
    with pytest.raises(SourceError, match="no such object"):
        read("scienceqa", scienceqa, "val")
    with pytest.raises(SourceError, match="minival"):
        read("scienceqa", scienceqa, "minival")


def test_aokvqa(tmp_path):
    rows = [
        {
            "question_id": f"q{number}",
            "image_id": number,
            "question": "What?",
            "choices": ["a", "b", "c", "d"],
            "correct_choice_idx": 2,
            "rationales": ["One.", "Two."],
        }
        for number in range(100)
    ]
    dump(tmp_path / "aokvqa_v1p0_train.json", rows)
    draw(*(tmp_path / "train2017" / f"{number:012d}.jpg" for number in range(100)))
    train, dev = (read("aokvqa", tmp_path, split).questions for split in ("train", "dev"))
    assert len(train) + len(dev) == 100
    assert 0 < len(dev) < 20
    assert not {question.id for question in train} & {question.id for question in dev}
    assert (train[0].answer, train[0].extra["solution"]) == ("C", "One. Two.")
