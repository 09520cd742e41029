# SPDX-License-Identifier: Apache-2.0
"""Answers to made-up items, the published code's cases, and a small copy of the files that benchmarks bring along."""

import json

import pytest

from llamafactory_mmself.evaluate.metrics import Answer, Item, metric


@pytest.fixture
def answers():
    """Makes answers from rows of (truth, text), (truth, text, verdict) or with `images` or `prompt` in the truth."""

    def make(*rows):
        made = []
        for place, (truth, text, *verdict) in enumerate(rows):
            truth = dict(truth)
            images, prompt = tuple(truth.pop("images", ())), truth.pop("prompt", "What?")
            made.append(Answer(Item(f"q{place}", prompt, images, truth), text, *verdict))
        return made

    return make


@pytest.fixture
def scores(answers):
    """`scores(name, rows, **options)`: the columns' totals are not looked at, only the figures."""

    def score(name, rows, **options):
        scorer = metric(name, **options)
        return dict(scorer.figures(scorer.columns(answers(*rows))))

    return score


@pytest.fixture(scope="session")
def golden(shared_golden):
    """Gives a group of one file of the published code's cases."""

    def load(file, group):
        return json.loads((shared_golden / file).read_text())[group]

    return load
