# SPDX-License-Identifier: Apache-2.0
"""Writes a few items of each benchmark in its owner's layout: made-up content, real form."""

from collections.abc import Callable, Mapping
from pathlib import Path

from llamafactory_mmself.toyworld.world import WorldOptions, write_world
from tests.evaluate.tasks import multiple_choice
from tests.evaluate.tasks.files import draw, dump, lines, parquet, picture, stored, text


MME = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
    *("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
)
PEOPLE = ["stop"] * 8 + ["go"] * 2, ["12"] * 2 + [f"{number} km" for number in range(8)]


def amber(folder: Path) -> None:
    draw(folder / "image", "AMBER_1.jpg", "AMBER_2.jpg")
    generative = [{"id": n, "image": f"AMBER_{n}.jpg", "query": "Describe this picture."} for n in (1, 2)]
    types = ("hallucination", "attribute-state", "relation", "attribute-number")
    asked = [{"id": 1005 + n, "image": "AMBER_1.jpg", "query": f"Is there thing {n}?"} for n in range(4)]
    truths = ("no", "yes", "no", "yes")
    dump(folder / "data/query/query_generative.json", generative)
    dump(folder / "data/query/query_discriminative.json", asked)
    dump(
        folder / "data/annotations.json",
        [
            {"id": 1, "type": "generative", "truth": ["sky", "tree"], "hallu": ["dog"]},
            {"id": 2, "type": "generative", "truth": ["car"], "hallu": ["person"]},
            *(
                {"id": 1005 + n, "type": f"discriminative-{kind}", "truth": truth}
                for n, (kind, truth) in enumerate(zip(types, truths, strict=True))
            ),
        ],
    )
    dump(
        folder / "data/relation.json",
        {"sky": ["cloud"], "tree": ["forest"], "dog": ["puppy"], "car": [], "person": []},
    )
    (folder / "data/safe_words.txt").write_text("image\npicture\n")


def mmhal(folder: Path) -> None:
    draw(folder / "images", "1_a.jpg", "2_b.jpg")
    dump(
        folder / "response_template.json",
        [
            {
                "question_type": kind,
                "question_topic": "outdoor",
                "image_id": name,
                "image_src": f"https://example.org/7/{name}.jpg",
                "image_content": ["Hat", "Door"],
                "question": f"What about {kind}?",
                "gt_answer": "It is blue.",
                "model_answer": "",
            }
            for kind, name in (("attribute", "1_a"), ("counting", "2_b"))
        ],
    )


def object_hal(folder: Path) -> None:
    rows = [{"org_idx": n, "image_id": 10 + n, "question": "Describe it.", "image": text(n)} for n in range(3)]
    lines(folder / "obj_halbench_300_with_image.jsonl", rows)
    (folder / "synonyms_refine.txt").write_text("person, man, woman\ndog, puppy\ncar, automobile\n")
    kinds = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "car"}]
    for split, images in (("val", (10, 11)), ("train", (12,))):
        notes = [{"image_id": image, "category_id": 1 + image % 3} for image in images]
        said = [{"image_id": image, "caption": f"A man near thing {image}."} for image in images]
        about = [{"id": image} for image in (*images, 99)]
        annotations = folder / "annotations"
        dump(annotations / f"instances_{split}2014.json", {"images": about, "categories": kinds, "annotations": notes})
        dump(annotations / f"captions_{split}2014.json", {"images": about, "annotations": said})


def llava_bench(folder: Path) -> None:
    draw(folder / "images", "001.jpg")
    rows = [
        {"question_id": n, "image": "001.jpg", "text": f"Question {n}?", "category": kind}
        for n, kind in enumerate(("conv", "complex"))
    ]
    lines(folder / "questions.jsonl", rows)
    lines(folder / "context.jsonl", [{"id": "001", "image": "001.jpg", "caption": "A harbour."}])
    lines(folder / "answers_gpt4.jsonl", [{"question_id": n, "text": "It is a harbour."} for n in range(2)])


def pope(folder: Path) -> None:
    draw(folder / "val2014", "COCO_val2014_000000000001.jpg")
    for part, labels in (("random", "yn"), ("popular", "ny"), ("adversarial", "yn")):
        rows = [
            {
                "question_id": n + 1,
                "image": "COCO_val2014_000000000001.jpg",
                "text": f"Is there thing {n} in the image?",
                "label": {"y": "yes", "n": "no"}[label],
            }
            for n, label in enumerate(labels)
        ]
        lines(folder / f"output/coco/coco_pope_{part}.json", rows)


def textvqa(folder: Path) -> None:
    draw(folder / "train_images", "a1.jpg", "b2.jpg")
    rows = [
        {"question_id": 34602 + n, "image_id": image, "question": f"What does sign {n} say?", "answers": PEOPLE[n]}
        for n, image in enumerate(("a1", "b2"))
    ]
    dump(folder / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "dataset_name": "textvqa", "data": rows})
    prompts = [
        {
            "question_id": row["image_id"],
            "image": f"{row['image_id']}.jpg",
            "text": f"{row['question']}\nReference OCR token: STOP, 12\nAn instruction.",
        }
        for row in rows
    ]
    lines(folder / "llava_textvqa_val_v051_ocr.jsonl", prompts)


def hallusion(folder: Path) -> None:
    draw(folder / "hallusion_bench", "VD/illusion/0_0.png", "VD/illusion/0_1.png", "VS/chart/0_1.png")
    rows = [("VD", "illusion", 0, 0, "1"), ("VD", "illusion", 0, 1, "0"), ("VD", "illusion", 1, 0, "0")]
    rows += [("VD", "illusion", 1, 1, "1"), ("VS", "chart", 0, 0, "1"), ("VS", "chart", 1, 0, "0")]
    dump(
        folder / "HallusionBench.json",
        [
            {
                "category": category,
                "subcategory": kind,
                "visual_input": "0" if category == "VS" and figure == 0 else "1",
                "set_id": "0",
                "figure_id": str(figure),
                "sample_note": "made up",
                "question_id": str(question),
                "question": f"Is {figure} the same as {question}?",
                "gt_answer_details": "They are the same.",
                "gt_answer": truth,
                "filename": None
                if category == "VS" and figure == 0
                else f"./hallusion_bench/{category}/{kind}/0_{figure}.png",
            }
            for category, kind, figure, question, truth in rows
        ],
    )


def chartqa(folder: Path) -> None:
    draw(folder / "test/png", "a.png", "b.png")
    human = [{"imgname": "a.png", "query": "How much?", "label": "100"}]
    machine = [{"imgname": "b.png", "query": "Which?", "label": "Blue"}]
    dump(folder / "test/test_human.json", human)
    dump(folder / "test/test_augmented.json", machine)


def clevr_math(folder: Path) -> None:
    draw(folder / "images/test", "CLEVR_test_000000.png", "CLEVR_test_000001.png")
    rows = [
        {"question": f"Subtract {n} cubes.", "answer": n, "image_filename": f"CLEVR_test_00000{n}.png"} for n in (0, 1)
    ]
    dump(folder / "clevr-math-test.json", {"questions": rows})


def mathvista(folder: Path) -> None:
    shared = {"unit": None, "metadata": {"task": "geometry problem solving", "skills": ["geometry reasoning"]}}
    rows = [
        {
            "question": "Which angle?",
            "choices": ["30", "60"],
            "precision": None,
            "answer": "60",
            "question_type": "multi_choice",
            "answer_type": "text",
            "query": "Hint: a letter.\nQuestion: Which angle?\nChoices:\n(A) 30\n(B) 60",
        },
        {
            "question": "How long?",
            "choices": None,
            "precision": 1.0,
            "answer": "1.2",
            "question_type": "free_form",
            "answer_type": "float",
            "query": "Hint: one decimal.\nQuestion: How long?",
        },
        {
            "question": "How many?",
            "choices": None,
            "precision": None,
            "answer": "7",
            "question_type": "free_form",
            "answer_type": "integer",
            "query": "Hint: an integer.\nQuestion: How many?",
        },
    ]
    parquet(
        folder / "data/testmini-00000-of-00001-abc.parquet",
        [
            {"pid": str(n + 1), "image": f"images/{n + 1}.jpg", "decoded_image": stored(n), **row, **shared}
            for n, row in enumerate(rows)
        ],
    )


def mme(folder: Path) -> None:
    for number, subtask in enumerate(MME):
        split = subtask in ("posters", "celebrity", "scene", "landmark", "artwork")
        below = folder / "MME_Benchmark_release_version" / subtask
        image = below / ("images/0001.jpg" if split else "0001.jpg")
        image.parent.mkdir(parents=True)
        image.write_bytes(picture(number, "JPEG"))
        texts = below / "questions_answers_YN" if split else below
        texts.mkdir(exist_ok=True)
        (texts / "0001.txt").write_text(
            "Is it? Please answer yes or no.\tYes\nIs it not? Please answer yes or no.\tNo\n"
        )


def mme_parquet(folder: Path) -> None:
    rows = [
        {
            "question_id": "OCR/0001.jpg",
            "image": stored(),
            "question": f"{answer}?",
            "answer": answer,
            "category": "OCR",
        }
        for answer in ("Yes", "No")
    ]
    parquet(folder / "data/test-00000-of-00001.parquet", rows)


def mmvet(folder: Path) -> None:
    draw(folder / "images", "v1_0.png", "v1_1.png")
    rows = {
        f"v1_{n}": {
            "imagename": f"v1_{n}.png",
            "question": f"What is x in {n}?",
            "answer": "-1<AND>-5",
            "imagesource": "made up",
            "capability": ["ocr", "math"] if n else ["ocr"],
        }
        for n in (0, 1)
    }
    dump(folder / "mm-vet.json", rows)


def toy(folder: Path) -> None:
    write_world(folder, WorldOptions(train=2, test=4, captions=2))


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "ai2d": multiple_choice.ai2d,
    "amber": amber,
    "aokvqa": multiple_choice.aokvqa,
    "chartqa": chartqa,
    "clevr_math": clevr_math,
    "cvbench": multiple_choice.cvbench,
    "geoqa": multiple_choice.geoqa,
    "hallusion": hallusion,
    "llava_bench": llava_bench,
    "m3cot": multiple_choice.m3cot,
    "mathvista": mathvista,
    "mmbench": multiple_choice.mmbench,
    "mme": mme,
    "mmhal": mmhal,
    "mmmu": multiple_choice.mmmu,
    "mmstar": multiple_choice.mmstar,
    "mmvet": mmvet,
    "object_hal": object_hal,
    "pope": pope,
    "realworldqa": multiple_choice.realworldqa,
    "scienceqa": multiple_choice.scienceqa,
    "tabmwp": multiple_choice.tabmwp,
    "textvqa": textvqa,
    "toy": toy,
}


def write(root: Path, *folders: str) -> Path:
    """Writes benchmarks below a folder; returns it."""
    for name in folders or WRITERS:
        WRITERS[name](root / name)
    return root
