# SPDX-License-Identifier: Apache-2.0
"""Nouns, lemmas and word similarity from NLTK and spaCy, loaded when the first text comes.

Metrics take functions of these shapes as arguments, so that other taggers, or recorded ones, can stand in.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from .base import MetricError


EXTRA = 'pip install "llamafactory-mmself[eval]"'
CORPORA = ("punkt_tab", "averaged_perceptron_tagger_eng", "wordnet")


class Token(NamedTuple):
    """A word as a tagger sees it: its lemma and its Penn Treebank tag."""

    lemma: str
    tag: str


Nouns = Callable[[str], list[str]]  # text -> lemmas of its nouns, in order, repeats included
Words = Callable[[str], list[str]]  # text -> lemmas of all its words
Similarity = Callable[[str, str], float]  # two words -> cosine of their vectors
Tagger = Callable[[str], Sequence[Token]]  # text -> its tokens


def nltk_nouns(text: str) -> list[str]:
    """The nouns of a text (tags NN, NNS, NNP, NNPS), lemmatised as nouns, in their own case.

    Raises:
        MetricError: NLTK or one of its corpora is not installed.
    """
    nltk, lemmatize = _nltk()
    return _corpora(
        lambda: [lemmatize(word) for word, tag in nltk.pos_tag(nltk.word_tokenize(text)) if tag[:2] == "NN"]
    )


def nltk_words(text: str) -> list[str]:
    """The words of a text in lower case, lemmatised as nouns.

    Raises:
        MetricError: NLTK or one of its corpora is not installed.
    """
    nltk, lemmatize = _nltk()
    return _corpora(lambda: [lemmatize(word) for word in nltk.word_tokenize(text.lower())])


def spacy_similarity(model: str = "en_core_web_lg") -> Similarity:
    """Cosine similarity of spaCy's vectors; each pair is computed once. Words without vectors have similarity 0."""

    @cache
    def vector(word: str) -> Any:
        return spacy_model(model)(word)

    @cache
    def similarity(first: str, second: str) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about words without a vector
            return float(vector(first).similarity(vector(second)))

    return similarity


def spacy_tagger(model: str = "en_core_web_trf") -> Tagger:
    """Lemmas and tags of a spaCy pipeline; each text is tagged once."""

    @cache
    def tag(text: str) -> tuple[Token, ...]:
        return tuple(Token(token.lemma_, token.tag_) for token in spacy_model(model)(text))

    return tag


@cache
def spacy_model(name: str) -> Any:
    """A spaCy pipeline.

    Raises:
        MetricError: spaCy or the model is not installed, with the command that does it.
    """
    try:
        import spacy
    except ImportError as error:
        raise MetricError(f"This metric needs spaCy: {EXTRA}") from error
    try:
        return spacy.load(name)
    except (OSError, ValueError, ImportError) as error:
        raise MetricError(f"spaCy's model {name} cannot be loaded: python -m spacy download {name}") from error


def _nltk() -> tuple[Any, Callable[[str], str]]:
    try:
        import nltk
        from nltk.stem import WordNetLemmatizer
    except ImportError as error:
        raise MetricError(f"This metric needs NLTK: {EXTRA}") from error
    return nltk, WordNetLemmatizer().lemmatize


def _corpora(work: Callable[[], list[str]]) -> list[str]:
    try:
        return work()
    except LookupError as error:
        raise MetricError(f"NLTK lacks data: python -m nltk.downloader {' '.join(CORPORA)}") from error
