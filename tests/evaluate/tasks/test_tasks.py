# SPDX-License-Identifier: Apache-2.0
"""Each task on a few items in its owner's layout: what is asked, and what recorded answers are worth.

The expected values are computed by hand, beside the answers.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llamafactory_mmself.evaluate.benchmark import Settings, evaluate
from llamafactory_mmself.evaluate.metrics import metric
from llamafactory_mmself.evaluate.metrics.base import Metric
from llamafactory_mmself.evaluate.metrics.taggers import Token
from llamafactory_mmself.evaluate.summary import markdown
from llamafactory_mmself.evaluate.tasks.task import load_task, names
from tests.evaluate.tasks import official
from tests.evaluate.tasks.recorded import Recorded, RecordedJudge, runner


@dataclass(frozen=True)
class Case:
    """A task, what its model says, and what that is worth.

    Attributes:
        answers: item -> the model's text.
        figures: figure -> its value under the default reading.
        prompt: how the first item's prompt begins.
        pictures: how many pictures each item shows, in order.
        verdicts: text in the judge's prompt -> what the judge says.
        unparsed: answers that cannot be read.
        published: figure -> its value with the published code's ways.
    """

    answers: Mapping[str, str]
    figures: Mapping[str, float]
    prompt: str
    pictures: tuple[int, ...]
    verdicts: Mapping[str, str] = field(default_factory=dict)
    unparsed: int = 0
    published: Mapping[str, float] = field(default_factory=dict)


MME_ANSWERS = {
    f"{subtask}/0001-{n}": "Yes" if n == 0 or subtask == "OCR" else "No." for subtask in official.MME for n in (0, 1)
}
CASES = {
    "ai2d": Case(
        {"5.png-0": "A", "5.png-1": "It is the root."},
        {"accuracy": 50.0},
        "Which part of 5.png is 0?\nChoices:\n(A) root\n(B) leaf\n(C) stem",
        (1, 1),
    ),
    # Two nouns of answer 1 are in the list: sky is there, puppy (dog) is a typical invention. Answer 2: car.
    # 1 of 3 mentions is invented, 2 of 3 objects are covered, 1 of 2 answers has an invention, 1 of 2 inventions made.
    "amber_generative": Case(
        {"1": "sky puppy", "2": "car image"},
        {"chair": 100 / 3, "cover": 200 / 3, "f1": 200 / 3, "hal": 50.0, "cog": 50.0},
        "Describe this picture.",
        (1, 1),
    ),
    # "No" was said once and right; two truths are no: precision 100, recall 50.
    "amber_discriminative": Case(
        {"1005": "No", "1006": "Yes", "1007": "Yes", "1008": "Perhaps."},
        {"f1": 200 / 3, "precision": 100.0, "recall": 50.0, "accuracy": 50.0},
        "Is there thing 0?",
        (1,) * 4,
        unparsed=1,
    ),
    "aokvqa": Case(
        {"back": "(B) sky", "dark": "The sea."},
        {"accuracy": 50.0},
        "What is in the back?\nChoices:\n(A) sea",
        (1, 1),
    ),
    # Two of ten people say sky: 2/3. The other question is marked as hard to answer directly.
    "aokvqa_direct": Case(
        {"back": "sky", "dark": "sky"}, {"accuracy": 200 / 3}, "What is in the back?\nReply", (1, 1)
    ),
    "chartqa": Case(
        {"test-human-0": "Answer: 104", "test-augmented-0": "Answer: red"},
        {"accuracy": 50.0, "accuracy/human": 100.0, "accuracy/augmented": 0.0},
        "How much?",
        (1, 1),
    ),
    "clevr_math": Case(
        {"test-0": "Answer: 0", "test-1": "Answer: 3"}, {"accuracy": 50.0}, "Subtract 0 cubes.", (1, 1)
    ),
    # ADE20K 1 of 2, COCO 1 of 1, Omni3D 1 of 2: ((50 + 100) / 2 + 50) / 2.
    "cvbench": Case(
        {"2D-0": "A", "2D-1": "(B)", "2D-2": "A. 3", "3D-0": "(A) 3", "3D-1": "B"},
        {"accuracy": 62.5, "2d": 75.0, "3d": 50.0},
        "How many 0? Select from the following choices.\n(A) 3\n(B) 4\nReply",
        (1,) * 5,
        published={"3d": 50.0, "2d": 25.0},  # "A. 3" does not begin with the label alone
    ),
    "geoqa": Case(
        {"test-0": "Answer: (B) 68.0", "test-1": "Answer: C"},
        {"accuracy": 50.0},
        "angle 0 = ()\nChoices:\n(A) 58.0",
        (1, 1),
    ),
    # Right: a, b, d, f. Figures: the first is right, the second not, the third is; the one without a picture is none.
    # Questions: only the second is right with all its figures.
    "hallusion": Case(
        {
            "VD-illusion-0-0-0": "Yes",
            "VD-illusion-0-0-1": "No",
            "VD-illusion-0-1-0": "Yes",
            "VD-illusion-0-1-1": "Yes, it is.",
            "VS-chart-0-0-0": "no",
            "VS-chart-0-1-0": "No.",
        },
        {"aAcc": 400 / 6, "fAcc": 200 / 3, "qAcc": 100 / 3, "mean": (400 / 6 + 200 / 3 + 100 / 3) / 3},
        "Is 0 the same as 0?",
        (1, 1, 1, 1, 0, 1),
    ),
    "llava_bench": Case(
        {"0": "A quiet harbour.", "1": "A loud street."},
        {"relative": 100 * 7.5 / 9, "relative/conv": 75.0, "answer": 7.5, "reference": 9.0},
        "Question 0?",
        (1, 1),
        {"A quiet harbour.": "8 6\nClose.", "A loud street.": "10 9\nOdd."},
    ),
    "m3cot": Case(
        {"physics-1": "It is two. Answer: B", "physics-2": "I cannot tell."},
        {"accuracy": 50.0, "accuracy/science": 50.0},
        "Which 1?\nChoices:\n(A) one\n(B) two\n(C) three",
        (1, 1),
        unparsed=1,
    ),
    "mathvista": Case(
        {"1": "B", "2": "The answer is 1.20.", "3": "6"},
        {"accuracy": 200 / 3, "accuracy/task=geometry problem solving": 200 / 3},
        "Hint: a letter.\nQuestion: Which angle?",
        (1,) * 3,
    ),
    # The first question is right both ways, the second only as it is published.
    "mmbench": Case(
        {"241": "A", "1000241": "B", "252": "B", "1000252": "B"},
        {"circular": 50.0, "accuracy": 100.0},
        "Context: A hint.\nWhich?\nChoices:\n(A) red\n(B) blue",
        (1,) * 4,
    ),
    # 13 subtasks of 200; in OCR one of two answers is right, and no picture.
    "mme": Case(
        MME_ANSWERS,
        {"total": 2650.0, "perception": 1850.0, "cognition": 800.0, "score/OCR": 50.0},
        "Is it? Please answer yes or no.",
        (1,) * 28,
    ),
    "mmhal": Case(
        {"0": "It is blue.", "1": "There are nine."},
        {"score": 4.0, "hallucination_rate": 50.0, "score/counting": 2.0},
        "What about attribute?",
        (1, 1),
        {"There are nine.": "Wrong.\nRating: 2", "It is blue.": "Rating: 6"},
    ),
    "mmmu": Case(
        {"validation_Computer_Science_1": "B", "validation_Computer_Science_2": "There are 9."},
        {"accuracy": 50.0, "accuracy/subject=Computer_Science": 50.0, "accuracy/domain=Tech and Engineering": 50.0},
        "Which of <image 1> and <image 2>?\nChoices:\n(A) one\n(B) it's two",
        (2, 1),
    ),
    # "An apple" is no letter; the published grader takes any text that begins with one.
    "mmstar": Case(
        {"0": "An apple", "1": "(B) three", "2": "C"},
        {"accuracy": 200 / 3, "accuracy/logical reasoning": 0.0, "accuracy/math": 100.0},
        "What is 0?\nOptions: A: one, two, B: three, C: four\nReply",
        (1,) * 3,
        unparsed=1,
        published={"accuracy": 100.0},
    ),
    "mmvet": Case(
        {"v1_0": "-1 and -5", "v1_1": "-1"},
        {"score": 75.0, "score/ocr": 75.0, "score/math": 50.0},
        "What is x in 0?",
        (1, 1),
        {"-1 and -5": "Correctness: 1.0", "": "Correctness: 0.5"},
    ),
    # Classes in the pictures: dog, car and person (outlined), and a man in each caption. Answer 0 names dog and car,
    # answer 1 an automobile, answer 2 is too short. 1 of 3 objects is wrong; 2 of 5 classes are named.
    "object_hal": Case(
        {"0": "There are a dog and a car.", "1": "I see an automobile here.", "2": "Nothing."},
        {"chair_i": 100 / 3, "chair_s": 50.0, "recall": 40.0, "f1": 2 * (200 / 3) * 40 / (200 / 3 + 40)},
        "Describe it.",
        (1,) * 3,
        {"a dog and a car": '["dog", "car"]', "an automobile": '["automobile"]'},
    ),
    # Yes was said three times, twice rightly; it is true three times. One answer is empty.
    "pope": Case(
        {
            "random-1": "Yes",
            "random-2": "No, there is no dog.",
            "popular-1": "Yes",
            "popular-2": "yes",
            "adversarial-1": "",
            "adversarial-2": "no",
        },
        {"f1": 200 / 3, "precision": 200 / 3, "recall": 200 / 3, "accuracy": 400 / 6, "f1/random": 100.0},
        "Is there thing 0 in the image?",
        (1,) * 6,
        unparsed=1,
    ),
    "realworldqa": Case(
        {"0": "A. car", "1": "2.", "2": "No"},
        {"accuracy": 200 / 3},
        "What is ahead?\n\nA. car\nB. bus\nPlease",
        (1,) * 3,
        published={"accuracy": 100 / 3},
    ),
    "scienceqa": Case(
        {"7": "B", "8": "The answer is (B).", "9": "A"},
        {"accuracy": 200 / 3, "accuracy/natural": 100.0, "accuracy/language": 0.0, "accuracy/no_context": 100.0},
        "Context: Look at the magnets.\nWhich 7?\nChoices:\n(A) one\n(B) two",
        (1, 0, 0),
        published={"accuracy": 33.33},  # one text has the official phrase
    ),
    "tabmwp": Case(
        {"3": "Answer: 1250", "4": "Answer: A"},
        {"accuracy": 50.0, "accuracy/ques_type=free_text": 100.0, "accuracy/grade=3": 50.0},
        "How many?",
        (1, 1),
    ),
    # Eight of ten say stop: 1. Two of ten say 12: without one of the two 1/3, without another person 2/3: 0.6.
    "textvqa": Case({"34602": "Stop.", "34603": "12"}, {"accuracy": 80.0}, "What does sign 0 say?\nReply", (1, 1)),
}
# The toy world's own case is computed from its truth; see below.
OWN = {"toy", "toy_captions", "mmbench_test"}


def stub(task: str, root: Path) -> dict[str, Metric]:
    """Metrics whose taggers are recorded: each word is a noun as it stands, and only equal words are similar."""
    if task == "amber_generative":
        data = root / "amber" / "data"
        made = metric(
            task,
            association=data / "relation.json",
            safe_words=data / "safe_words.txt",
            nouns=lambda text: text.split(),
            similarity=lambda first, second: float(first == second),
        )
        return {task: made}
    if task == "object_hal":
        folder = root / "object_hal"
        made = metric(
            task,
            synonyms=folder / "synonyms_refine.txt",
            annotations=folder / "annotations",
            tagger=lambda text: [Token(word, "NN") for word in text.split() if word != "a"],
            words=lambda text: text.lower().strip(".").split(),
        )
        return {task: made}
    return {}


def run(task: str, tmp_path: Path, model: Recorded, judge: RecordedJudge | None = None, **settings):
    root = tmp_path / "benchmarks"
    if not (root / load_task(task).folder).is_dir():
        official.write(root, load_task(task).folder)
    chosen = Settings(root, tmp_path / "out", **{"draws": 20, **settings})
    found = evaluate([load_task(task)], chosen, run=runner(model), judge=judge, scorers=stub(task, root))
    return json.loads((found.scored[0].folder / "scores.json").read_text())


def values(scores: dict, names: Mapping[str, float]) -> dict[str, float]:
    return {name: scores["figures"][name]["value"] for name in names}


def test_every_task_has_a_case() -> None:
    assert CASES.keys() | OWN == set(names())


@pytest.mark.parametrize("task", CASES)
def test_a_task_from_files_to_figures(task, tmp_path) -> None:
    case = CASES[task]
    model, judge = Recorded(case.answers), RecordedJudge(case.verdicts) if case.verdicts else None
    scores = run(task, tmp_path, model, judge)
    assert values(scores, case.figures) == pytest.approx(case.figures)
    assert (scores["n"], scores["unparsed"], scores["cut"]) == (len(case.answers), case.unparsed, 0)
    by_id = {request.id: request for request in model.asked}
    requests = [by_id[name] for name in case.answers]
    assert tuple(len(request.images) for request in requests) == case.pictures
    assert requests[0].messages[-1].content.replace("<image>\n", "").startswith(case.prompt)
    rows = [json.loads(line) for line in (tmp_path / "out" / task / "predictions.jsonl").read_text().splitlines()]
    assert {row["id"]: row["text"] for row in rows} == case.answers
    assert all((tmp_path / "out" / task / image).is_file() for row in rows for image in row["images"])


@pytest.mark.parametrize("task", [task for task, case in CASES.items() if case.published])
def test_a_task_with_the_published_ways(task, tmp_path) -> None:
    case = CASES[task]
    scores = run(task, tmp_path, Recorded(case.answers), quirks="published")
    assert values(scores, case.published) == pytest.approx(case.published)
    assert scores["metric"]["options"]["quirks"] == "published"


def test_toy_questions_are_scored_by_the_toy_worlds_truth(tmp_path) -> None:
    official.write(tmp_path / "benchmarks", "toy")
    questions = json.loads((tmp_path / "benchmarks/toy/test.json").read_text())
    answers = {row["id"]: f"Answer: {row['answer']}" for row in questions}
    answers[questions[0]["id"]] = "I do not know."
    model = Recorded(answers)
    scores = run("toy", tmp_path, model)
    assert scores["figures"]["accuracy"]["value"] == 75.0
    assert scores["unparsed"] == 1
    asked = {request.id: request.messages[-1].content for request in model.asked}
    block = questions[0]["conversations"][0]["value"]
    assert asked[questions[0]["id"]].startswith(block)


def test_toy_captions_that_are_true_name_nothing_that_is_not_there(tmp_path) -> None:
    official.write(tmp_path / "benchmarks", "toy")
    rows = json.loads((tmp_path / "benchmarks/toy/captions.json").read_text())
    truth = {row["id"]: row["answer"] for row in rows}
    perfect = run("toy_captions", tmp_path, Recorded(truth))["figures"]
    swapped = dict(zip(truth, reversed(truth.values()), strict=True))
    liar = Recorded(swapped, policy="liar")
    other = run("toy_captions", tmp_path, liar)["figures"]
    assert perfect["f1"]["value"] == 100.0
    assert other["f1"]["value"] < 100.0


def test_a_split_without_published_answers_gives_predictions_only(tmp_path) -> None:
    official.write(tmp_path, "mmbench")
    model = Recorded({"241": "B. blue", "252": "I cannot tell,\nsorry.", "1000252": "The answer is (A)."})
    settings = Settings(tmp_path, tmp_path / "out")
    found = evaluate([load_task("mmbench_test")], settings, run=runner(model))
    assert (tmp_path / "out/mmbench_test/predictions.jsonl").is_file()
    assert not (tmp_path / "out/mmbench_test/scores.json").exists()
    assert found.scored[0].headline is None and found.scored[0].facts["unparsed"] == 1
    with open(tmp_path / "out/mmbench_test/submission.tsv", newline="") as file:
        rows = list(csv.DictReader(file, dialect="excel-tab"))
    assert list(rows[0]) == ["index", "question", "A", "B", "C", "D", "prediction"]
    assert list(rows[0].values()) == ["241", "Context: A hint.\nWhich?", "red", "blue", "", "", "B"]
    assert [(row["index"], row["A"], row["prediction"]) for row in rows[1:]] == [
        ("252", "up", "I cannot tell,\nsorry."),
        ("1000252", "down", "A"),
    ]
    assert "submission.tsv is for the server of MMBench, English, test" in markdown(found, settings)
