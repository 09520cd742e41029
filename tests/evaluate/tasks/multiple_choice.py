# SPDX-License-Identifier: Apache-2.0
"""Writes a few items of the benchmarks with options in their owners' layouts: made-up content, real form."""

from pathlib import Path

from tests.evaluate.tasks.files import draw, dump, lines, parquet, picture, stored, text, tsv


def mmstar(folder: Path) -> None:
    rows = [
        {
            "index": n,
            "question": f"What is {n}?\nOptions: A: one, two, B: three, C: four",
            "image": picture(n),
            "answer": letter,
            "category": "math" if n else "logical reasoning",
            "l2_category": "geometry",
            "meta_info": {"source": "made up", "split": "val", "image_path": "x.jpg"},
        }
        for n, letter in enumerate("ABC")
    ]
    parquet(folder / "mmstar.parquet", rows)


def mmstar_tsv(folder: Path) -> None:
    shared = {"A": "one", "B": "three", "C": "", "D": "", "category": "math", "l2_category": "geometry"}
    rows = [
        {"index": n, "question": f'What "is"\t{n}?', **shared, "answer": "AB"[n], "image": text(n)} for n in (0, 1)
    ]
    tsv(folder / "MMStar.tsv", rows)


def realworldqa(folder: Path) -> None:
    rows = [
        {
            "question": "What is ahead?\n\nA. car\nB. bus\nPlease answer directly with only the letter of the correct "
            "option and nothing else.",
            "answer": "A",
        },
        {"question": "How many? Please answer directly with a single word or number.", "answer": "2"},
        {"question": "Is it red? Please answer directly with a single word or number.", "answer": "Yes"},
    ]
    parquet(folder / "data/test-00000-of-00001.parquet", [{"image": stored(n), **row} for n, row in enumerate(rows)])


def cvbench(folder: Path) -> None:
    sources = {"2d": ("ADE20K", "ADE20K", "COCO"), "3d": ("Omni3D", "Omni3D")}
    for kind, names in sources.items():
        rows = [
            {
                "idx": n,
                "type": kind.upper(),
                "task": "Count" if kind == "2d" else "Depth",
                "image": stored(n),
                "question": f"How many {n}?",
                "choices": ["3", "4"],
                "answer": "(A)",
                "prompt": f"How many {n}? Select from the following choices.\n(A) 3\n(B) 4",
                "filename": f"img/{kind}/{n}.png",
                "source": source,
            }
            for n, source in enumerate(names)
        ]
        parquet(folder / f"test_{kind}.parquet", rows)


def m3cot(folder: Path) -> None:
    draw(folder / "images", "physics-1.png", "physics-2.png")
    rows = [
        {
            "id": f"physics-{n}",
            "question": f"Which {n}?",
            "choices": ["one", "two", "three"],
            "context": "",
            "answer": "B",
            "domain": "science",
            "topic": "natural-science",
            "image": f"images/physics-{n}.png",
        }
        for n in (1, 2)
    ]
    lines(folder / "test.jsonl", rows)


def scienceqa(folder: Path) -> None:
    draw(folder / "images/test/7", "image.png")
    problems = {
        "7": {"hint": "Look at the magnets.", "image": "image.png", "subject": "natural science", "grade": "grade2"},
        "8": {"hint": "", "image": None, "subject": "social science", "grade": "grade8"},
        "9": {"hint": "A text.", "image": None, "subject": "language science", "grade": "grade7"},
        "10": {"hint": "", "image": None, "subject": "language science", "grade": "grade7", "split": "train"},
    }
    shared = {"choices": ["one", "two"], "answer": 1, "topic": "t", "lecture": "l", "solution": "s", "split": "test"}
    rows = {id: {"question": f"Which {id}?", **shared, **facts} for id, facts in problems.items()}
    dump(folder / "problems.json", rows)
    dump(folder / "pid_splits.json", {"train": ["10"], "test": ["7", "8", "9"]})


def aokvqa(folder: Path) -> None:
    draw(folder / "coco/val2017", "000000000042.jpg")
    rows = [
        {
            "split": "val",
            "image_id": 42,
            "question_id": name,
            "question": f"What is in the {name}?",
            "choices": ["sea", "sky", "road", "tree"],
            "correct_choice_idx": 1,
            "direct_answers": ["sky", "sky", *(f"cloud {n}" for n in range(8))],
            "difficult_direct_answer": name == "dark",
            "rationales": ["It is blue."] * 3,
        }
        for name in ("back", "dark")
    ]
    dump(folder / "aokvqa_v1p0_val.json", rows)


def geoqa(folder: Path) -> None:
    draw(folder / "images", "test-0.png", "test-1.png")
    rows = [
        {"id": f"test-{n}", "question": f"angle {n} = ()", "choices": ["58.0", "68.0", "78.0", "None"], "answer": "B"}
        | {"image": f"images/test-{n}.png"}
        for n in (0, 1)
    ]
    dump(folder / "test.jsonl", rows)


def tabmwp(folder: Path) -> None:
    draw(folder / "tables", "3.png", "4.png")
    shared = {"unit": None, "ans_type": "integer_number", "grade": 3}
    problems = {
        "3": {"question": "How many?", "choices": None, "answer": "1,250", "ques_type": "free_text", **shared},
        "4": {"question": "Which?", "choices": ["yes", "no"], "answer": "no", "ques_type": "multi_choice", **shared},
    }
    dump(folder / "problems_test.json", problems)


def ai2d(folder: Path) -> None:
    draw(folder / "images", "0.png", "5.png")
    for name in ("0.png", "5.png"):
        questions = {
            f"Which part of {name} is {n}?": {
                "abcLabel": False,
                "answerTexts": ["root", "leaf", "stem"],
                "correctAnswer": n,
                "questionId": f"{name}-{n}",
            }
            for n in (0, 1)
        }
        dump(folder / f"questions/{name}.json", {"imageName": name, "questions": questions})
    (folder / "ai2d_test_ids.csv").write_text("5\n")


def ai2d_parquet(folder: Path) -> None:
    rows = [{"question": "Which?", "options": ["root", "leaf"], "answer": "1", "image": stored()}]
    parquet(folder / "data/test-00000-of-00001.parquet", rows)


def mmbench(folder: Path) -> None:
    shared = {"category": "ocr", "l2-category": "fine", "source": "made up", "split": "dev", "comment": ""}
    rows = [
        {
            "index": 241,
            "question": "Which?",
            "hint": "A hint.",
            "A": "red",
            "B": "blue",
            "answer": "A",
            "image": text(),
        },
        {"index": 252, "question": "Which?", "hint": "", "A": "up", "B": "down", "answer": "B", "image": "241"},
        {"index": 1000241, "question": "Which?", "hint": "", "A": "blue", "B": "red", "answer": "B", "image": "241"},
    ]
    tsv(folder / "MMBench_DEV_EN_V11.tsv", [{**row, "C": "", "D": "", **shared} for row in rows])
    hidden = [{**row, "C": "", "D": "", **shared, "split": "test"} for row in rows[:2]]
    hidden.append({**hidden[1], "index": 1000252, "A": "down", "B": "up"})
    for row in hidden:
        row.pop("answer")
    tsv(folder / "MMBench_TEST_EN_V11.tsv", hidden)


def mmmu(folder: Path) -> None:
    empty = {f"image_{n}": None for n in range(3, 8)}
    rows = [
        {
            "id": "validation_Computer_Science_1",
            "question": "Which of <image 1> and <image 2>?",
            "options": "['one', \"it's two\", '<image 2>']",
            "explanation": "",
            "image_1": stored(0),
            "image_2": stored(1),
            **empty,
            "img_type": "['Diagrams']",
            "answer": "B",
            "topic_difficulty": "Easy",
            "question_type": "multiple-choice",
            "subfield": "Data",
        }
    ]
    rows.append(
        rows[0]
        | {
            "id": "validation_Computer_Science_2",
            "question": "How many in <image 1>?",
            "options": "[]",
            "image_2": None,
        }
        | {"answer": "['8', 'eight']", "question_type": "open"}
    )
    parquet(folder / "Computer_Science/validation-00000-of-00001.parquet", rows)
