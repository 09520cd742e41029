# SPDX-License-Identifier: Apache-2.0
"""The named profiles."""

from __future__ import annotations

from types import MappingProxyType

from . import chartqa, clevr, free, letters, published, stl, tabmwp, tagged, toy
from .types import Found, Profile, Response, VerifyError


PUBLISHED = "-published"


def _tabmwp_published(response: Response) -> Found:
    return published.tabmwp(response, tabmwp.unit_of(response.question))


def _tabmwp_same(answer: str, truth: str, response: Response) -> bool:
    letter = truth.strip().strip("()").upper()
    if response.choices and len(letter) == 1 and letter in response.letters and truth not in response.choices:
        truth = response.choices[response.letters.index(letter)]
    try:
        gold = published.tabmwp_normalize(truth, tabmwp.unit_of(response.question))
    except (ValueError, ZeroDivisionError, OverflowError):
        gold = truth
    return answer.lower() == gold.lower()


def _stl_same(answer: str, truth: str, response: Response) -> bool:
    return answer == truth.strip().strip("()").upper()


_ALL = (
    Profile("geoqa", 2, "GeoQA options by letter, text or value", letters.extract_among_points, letters.same_option),
    Profile("tabmwp", 3, "TabMWP options, numbers with their unit, times", tabmwp.extract, tabmwp.matches),
    Profile("chartqa", 3, "ChartQA relaxed accuracy, years exactly", chartqa.extract, chartqa.matches),
    Profile("clevr", 2, "CLEVR-Math whole numbers", clevr.extract, clevr.matches),
    Profile("letters", 2, "options by letter, text or value (M3CoT, ScienceQA)", letters.extract, letters.same_option),
    Profile("number", 2, "free numbers", free.extract_number, free.same_number),
    Profile("expression", 3, "free expressions, compared by algebra", free.extract_expression, free.same_expression),
    Profile("stl", 2, "the option of a whole CAPTION/REASONING/CONCLUSION answer", stl.extract, letters.same_option),
    Profile(
        "stl-nocaption",
        2,
        "the option of a whole REASONING/CONCLUSION answer",
        stl.extract_without_caption,
        letters.same_option,
    ),
    Profile(
        "tagged",
        2,
        "what a closed CONCLUSION section holds: a letter, a number or words",
        tagged.extract,
        tagged.matches,
    ),
    Profile("toy", 3, "the toy world's letters, numbers and words", toy.extract, toy.matches),
    Profile(
        "geoqa-published",
        1,
        "the judge that built R3V's training data: any last letter is an option",
        published.geoqa("Answer", any_letter=True),
        published.same_letter,
    ),
    Profile(
        "geoqa-published-eval",
        1,
        "the judge that scored R3V on GeoQA; where it throws dice, unparsed",
        published.geoqa("answer", any_letter=True, dice=True),
        published.same_letter,
    ),
    Profile(
        "geoqa-published-vote",
        1,
        "the extractor of R3V's majority vote on GeoQA",
        published.geoqa("Answer:", any_letter=False),
        published.same_letter,
    ),
    Profile("tabmwp-published", 1, "R3V's TabMWP evaluation", _tabmwp_published, _tabmwp_same, empty_counts=True),
    Profile("chartqa-published", 1, "R3V's relaxed accuracy", published.chartqa, published.relaxed, empty_counts=True),
    Profile("clevr-published", 1, "R3V's CLEVR-Math evaluation", published.clevr, published.same_text),
    Profile("letters-published", 1, "M3CoT's official scorer", published.m3cot, published.same_letter),
    Profile("stl-published", 1, "STL's extraction: the first lower-case letter", published.stl, _stl_same),
)
PROFILES = MappingProxyType({profile.name: profile for profile in _ALL})
ALIASES = MappingProxyType(
    {
        "m3cot": "letters",
        "scienceqa": "letters",
        "m3cot-published": "letters-published",
        "scienceqa-published": "letters-published",
    }
)


def profile(name: str) -> Profile:
    """Looks a profile up by its name or alias.

    Raises:
        VerifyError: no such profile; the text lists the names.
    """
    found = PROFILES.get(ALIASES.get(name, name))
    if found is None:
        raise VerifyError(f"There is no verification profile {name!r}. Known: {', '.join([*PROFILES, *ALIASES])}.")
    return found


def describe() -> str:
    """One line a profile: name, version, what it reads."""
    lines = [f"{item.name} (version {item.version}): {item.description}" for item in PROFILES.values()]
    return "\n".join([*lines, *(f"{alias}: the same as {name}" for alias, name in ALIASES.items())])
