# SPDX-License-Identifier: Apache-2.0
"""MMBench (Liu et al. 2024): tables with tabs, pictures inside.

Some releases hold each question once, others also with its options turned round (`index` plus a multiple of a
million), and name the picture of such a row by the index of the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_uppercase

from ...metrics.base import Item
from .common import Place, Row, choice_item, tsv_rows


MILLION = 1_000_000
REFERENCE = 64  # a picture cell of at most this many characters names another row
DEV = ("MMBench_DEV_EN_V11.tsv", "MMBench_DEV_EN.tsv", "mmbench_dev_en_*.tsv", "mmbench_dev_*.tsv")
TEST = ("MMBench_TEST_EN_V11.tsv", "MMBench_TEST_EN.tsv", "mmbench_test_en_*.tsv", "mmbench_test_*.tsv")


def read(place: Place, split: str = "dev", circular: bool = True) -> Iterator[Item]:
    """Yields the questions: of `dev` with `circular` each of them with its options turned round in all ways.

    The server that scores `test` knows the rows of the release only: they come as they are, turned ones among them.

    Truth: `answer` (a letter; none in the test set), `choices`, `category`, `l2_category`, `index` (that of the
    question, plus a million for each turn of its options).
    """
    pictures: dict[str, str] = {}
    for row in tsv_rows(place.find(*(DEV if split == "dev" else TEST))):
        index, cell = row.whole("index"), row.text("image")
        if len(cell) > REFERENCE:
            pictures[str(index)] = place.keep(row, cell)
        elif cell not in pictures:
            raise row.fail("image", f"there is no row {cell} before this one, whose picture it should have.")
        image = pictures.get(str(index)) or pictures[cell]
        if split == "test":
            yield _item(row, index, 0, row.columns(), None, image)
        elif index < MILLION:
            choices = row.columns()
            answer = row.letter("answer", choices)
            for turn in range(len(choices) if circular else 1):
                yield _item(row, index, turn, choices, answer, image)


def _item(row: Row, index: int, turn: int, choices: tuple[str, ...], answer: str | None, image: str) -> Item:
    hint, question = row.text("hint", default=""), row.text("question")
    facts = {} if answer is None else {"answer": ascii_uppercase[(ord(answer) - ord("A") - turn) % len(choices)]}
    return choice_item(
        str(index + turn * MILLION),
        f"Context: {hint}\n{question}" if hint and hint.lower() != "nan" else question,
        [image],
        (*choices[turn:], *choices[:turn]),
        category=row.text("category", default=""),
        l2_category=row.text("l2-category", default=""),
        index=index + turn * MILLION,
        **facts,
    )
