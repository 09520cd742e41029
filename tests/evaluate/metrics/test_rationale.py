# SPDX-License-Identifier: Apache-2.0
"""Overlap of rationales with references."""

import math
import sys

import numpy as np
import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric
from llamafactory_mmself.evaluate.metrics.rationale import bleu, common_subsequence, rouge_l


def test_bleu():
    assert bleu("a b c d e", "a b c d e", 4) == pytest.approx(1)
    assert bleu("a b c d", "a a a a", 1) == 0.25  # a counts once
    assert bleu("a b c d", "a b", 1) == pytest.approx(math.exp(1 - 2))
    # p1 = 5/6, p2 = 4/5, p3 = 3/4, p4 = 2/3, and as long as the reference
    assert bleu("a b c d e f", "a b c d e x", 4) == pytest.approx((5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)
    assert bleu("a b c", "a b c", 4) == 0 and bleu("a", "", 1) == 0 and bleu("a.b", "b. a", 1) == 1


def test_rouge_counts_different_words_over_sentences():
    assert rouge_l("a b c", "a b c") == pytest.approx(1)
    # "a b" and "c" are found, of 4 and 3 different words
    assert rouge_l("a b x. c.", "c. a b a") == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert rouge_l("a", "") == 0 and rouge_l("", "a") == 0
    # behind the last full stop stands a blank, which is a word as published
    assert rouge_l("a.", "a. ", published=True) == pytest.approx(2 / 3)
    assert rouge_l("a.", "a. ") == pytest.approx(1)


def test_common_subsequences():
    first, second = "the stone is dense so it sinks", "the stone sinks because it is dense"
    assert common_subsequence(first.split(" "), second.split(" ")) == ["the", "stone", "is", "dense"]
    assert common_subsequence([], ["a"]) == common_subsequence(["a"], []) == []


ROWS = [({"reference": "a b c d"}, "a b c d"), ({"reference": "a b c d"}, ""), ({"reference": " "}, "x")]


def test_figures_leave_out_what_has_no_reference(scores):
    found = scores("text_overlap", ROWS)
    assert found == pytest.approx({"bleu1": 50, "bleu4": 50, "rouge_l": 50})
    found = scores("text_overlap", ROWS, quirks="published")
    assert found == pytest.approx({"bleu1": 50, "bleu4": 50, "rouge_l": 100})
    assert metric("text_overlap").columns([]) is not None
    with pytest.raises(MetricError, match="no 'reference'"):
        scores("text_overlap", [({}, "x")])


def test_similarity_with_an_embedder_of_ones_own(scores):
    def embed(texts):
        return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)

    rows = [
        ({"reference": "a"}, "aa"),
        ({"reference": "a"}, "ab"),
        ({"reference": "a"}, "x"),
        ({"reference": "a"}, ""),
    ]
    assert scores("text_overlap", rows, embedder=embed)["similarity"] == pytest.approx(100 * (1 + 0.5**0.5) / 4)


def test_similarity_with_a_model_by_name(scores, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MetricError, match="all-MiniLM-L6-v2 needs sentence-transformers: pip install"):
        scores("text_overlap", ROWS, embedder="all-MiniLM-L6-v2")

    class Stub:
        class SentenceTransformer:
            def __init__(self, name):
                assert name == "all-MiniLM-L6-v2"

            def encode(self, texts):
                return np.ones((len(texts), 2))

    monkeypatch.setitem(sys.modules, "sentence_transformers", Stub)
    assert scores("text_overlap", ROWS, embedder="all-MiniLM-L6-v2")["similarity"] == pytest.approx(50)
