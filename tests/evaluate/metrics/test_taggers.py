# SPDX-License-Identifier: Apache-2.0
"""The taggers that are loaded when they are needed, with modules in the place of NLTK and spaCy."""

import sys
import types
import warnings

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError
from llamafactory_mmself.evaluate.metrics.taggers import (
    Token,
    nltk_nouns,
    nltk_words,
    spacy_model,
    spacy_similarity,
    spacy_tagger,
)


@pytest.fixture(autouse=True)
def no_pipelines_are_kept():
    spacy_model.cache_clear()
    yield
    spacy_model.cache_clear()


@pytest.fixture
def nltk(monkeypatch):
    module, stem = types.ModuleType("nltk"), types.ModuleType("nltk.stem")
    module.word_tokenize = str.split
    module.pos_tag = lambda words: [(word, "NNS" if word.endswith("s") else "VB") for word in words]
    stem.WordNetLemmatizer = lambda: types.SimpleNamespace(lemmatize=lambda word: word.removesuffix("s"))
    module.stem = stem
    monkeypatch.setitem(sys.modules, "nltk", module)
    monkeypatch.setitem(sys.modules, "nltk.stem", stem)
    return module


def test_nltk(nltk):
    assert nltk_nouns("Dogs chase cats") == ["Dog", "cat"]
    assert nltk_words("Dogs chase cats") == ["dog", "chase", "cat"]


def test_nltk_lacks_data_or_is_not_there(nltk, monkeypatch):
    def fail(words):
        raise LookupError("punkt_tab")

    nltk.word_tokenize = fail
    with pytest.raises(
        MetricError, match=r"python -m nltk\.downloader punkt_tab averaged_perceptron_tagger_eng wordnet"
    ):
        nltk_nouns("x")
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(MetricError, match=r"pip install .llamafactory-mmself\[eval\]"):
        nltk_words("x")


class Doc(list):
    def similarity(self, other):
        warnings.warn("no vectors", UserWarning, stacklevel=1)
        return 1.0 if self[0].lemma_ == other[0].lemma_ else 0.25


@pytest.fixture
def spacy(monkeypatch):
    def load(name):
        if not name.startswith("en_core_web"):
            raise OSError("no model")
        calls.append(name)
        return lambda text: Doc(types.SimpleNamespace(lemma_=word.lower(), tag_="NN") for word in text.split())

    calls = []
    module = types.ModuleType("spacy")
    module.load = load
    monkeypatch.setitem(sys.modules, "spacy", module)
    return calls


def test_spacy(spacy):
    similarity, tagger = spacy_similarity(), spacy_tagger()
    assert spacy == []
    assert (similarity("dog", "Dog"), similarity("dog", "cat"), similarity("dog", "cat")) == (1.0, 0.25, 0.25)
    assert list(tagger("A Dog")) == [Token("a", "NN"), Token("dog", "NN")]
    assert spacy == ["en_core_web_lg", "en_core_web_trf"]


def test_spacy_lacks_the_model_or_is_not_there(spacy, monkeypatch):
    with pytest.raises(MetricError, match=r"de_small cannot be loaded: python -m spacy download de_small"):
        spacy_tagger("de_small")("x")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MetricError, match=r"needs spaCy: pip install"):
        spacy_similarity()("x", "y")
