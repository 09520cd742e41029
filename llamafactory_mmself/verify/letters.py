# SPDX-License-Identifier: Apache-2.0
"""Multiple choice: which option a text settles on.

The last announced answer is read first ("Answer: ...", "the correct option is ...", a box); its own beginning counts,
so that an explanation behind it changes nothing. An answer that is taken back ("A. Wait, it's B.") is what replaces
it; it is none if nothing does, or if a later sentence states another option without taking the first one back. Without
an announcement the last sentence must name one option, by letter, by text or by the value that it works out. Letters
are options only where they stand as such: `(B)`, `B.`, `option B`, or alone; the article in "a surplus", the point in
"angle C" and the last letter of "degrees" are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from string import ascii_uppercase

from . import numbers
from .text import (
    LONGEST_AFTERTHOUGHT,
    TAKEN_BACK,
    WITHDRAWN,
    afterthoughts,
    final_segment,
    first_line,
    plain,
    sentences,
)
from .types import Found, Response


TEXT = "option text"
NONE = "no answer"
AMBIGUOUS = "ambiguous option"
FOREIGN = "option not offered"
EMPTY = "nothing after the answer marker"

LEAD = (
    r"(?:(?:it|this|that)(?:\s+is|'s|\s+should\s+be|\s+must\s+be)\s+|is\s+)?(?:the\s+)?(?:(?:correct|right|best|final)\s+)?"
    r"(?:(?:option|choice|answer|letter)\s*(?:is\s*)?:?\s*)?"
)
BRACKETED = re.compile(rf"{LEAD}[(\[{{]\s*([A-Za-z])\s*[)\]}}]", re.IGNORECASE)
BARE = re.compile(
    rf"(?P<lead>{LEAD})[\"']?(?P<letter>[A-Za-z])(?P<end>[\"']?\s*(?:$|\n|[.:;,)!?](?!\w)|\s))", re.IGNORECASE
)
# A letter that something else is called by: angle C, point (A), line l.
NAMED = re.compile(
    r"(?:\b(?:angles?|points?|lines?|segments?|triangles?|sides?|arcs?|rays?|circles?|vertex|chords?|planes?|step|part|"
    r"figure|panel)|[∠△⊙])\s*$",
    re.IGNORECASE,
)
MENTION = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]|\b(?:option|choice|letter)\s+([A-Za-z])\b", re.IGNORECASE)
CHOSEN = re.compile(
    r"(?:\b(?:choose|select|pick|go with|so|thus|hence|therefore|(?:it|this|that)(?:\s+is|'s))\b[ ,:]*"
    r"(?:the\s+)?(?:(?:option|choice|answer)\s+)?)"
    r"(?:[(\[]\s*([A-Za-z])\s*[)\]]|((?-i:[A-Z]))(?=[.!]?\s*$|,?\s+(?:because|since|as)\b))",
    re.IGNORECASE,
)
LAST = re.compile(
    r"(?:\b(?:is|be|say|for|think|guess|probably|likely|definitely|choice|option)|[:,])\s+(?-i:([A-Z]))[.!]?\s*$",
    re.IGNORECASE,
)
APPROVED = re.compile(
    r"(?:[(\[]\s*([A-Za-z])\s*[)\]]|\b(?:option|choice)\s+([A-Za-z]))\s+is\s+(?:the\s+)?(?:correct|right|best|answer|true)",
    re.IGNORECASE,
)
SECOND = re.compile(
    r"\s*(?:,|/|&|and\b|or\b)\s*(?:or\b\s*)?(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Z])\b(?=\s*(?:$|[.,;])))|\(([A-Za-z])\)"
)
NOT_BEFORE = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|than|instead of|excludes?|rules? out)|n't)\b[^,;:.]*$", re.IGNORECASE
)
NOT_AFTER = re.compile(
    r"[\s\"')\]]*(?:[\w\s]{0,40}?\b)?(?:(?:is|are|was|seems|looks|would be|must be)\s+(?:\w+\s+)?"
    r"(?:wrong|incorrect|false|ruled out|excluded|not)\b"
    r"|isn't|aren't|cannot|can't|can not|doesn't|does not|is too|fails)",
    re.IGNORECASE,
)
CLAUSE = re.compile(
    r"[,;:.!?\n]|\b(?:but|so|hence|therefore|thus|because|since|as|while|whereas|where|which|given|due|and)\b",
    re.IGNORECASE,
)
ARTICLE = re.compile(r"(?:the|an?)\s+", re.IGNORECASE)
# What may follow a bare letter that is an answer; "C D is parallel to A B" and "A B = 5" begin with points.
REASON = re.compile(
    r"\s*(?:$|[\d(;:]|(?:because|since|as|for|due)\b|is\s+(?:the\s+)?(?:correct|right|best|answer|true)\b)",
    re.IGNORECASE,
)


def extract(response: Response) -> Found:
    """Finds the letter that a response settles on."""
    return _extract(response, points=False)


def extract_among_points(response: Response) -> Found:
    """The same for geometry, where a letter at the end of a sentence ("the midpoint is B.") is a point."""
    return _extract(response, points=True)


def _extract(response: Response, points: bool) -> Found:
    text = plain(response.text).strip()
    if not text:
        return Found(None, "empty")
    segment, marked = final_segment(text)
    if marked:
        return Found(None, EMPTY) if segment is None else read_option(segment, response.choices)
    if "\n" not in text:
        found = _head(text, response.choices)
        if found is not None:
            return read_option(text, response.choices)
    found = _unmarked(text, response.choices)
    last = LAST.search(text) if found.rule == NONE and not points else None
    return _offered(last.group(1), response.choices, "last letter") if last else found


def read_option(segment: str, choices: Sequence[str]) -> Found:
    """Finds the option that an announced answer settles on: its beginning first, then anything in its first line."""
    announced, after = afterthoughts(_without_replies(plain(segment).strip(), choices))
    for part in reversed(after):
        found = _restated(part, choices)
        if found is not None:
            return found
        if WITHDRAWN.search(part) or not re.search(r"\w", part):
            return Found(None, AMBIGUOUS)
    found = _announced(announced, choices)
    other = None if found.answer is None else _contradiction(announced, choices)
    contradicted = other is not None and other.answer not in (None, found.answer)
    return Found(None, AMBIGUOUS) if contradicted else found


def same_option(answer: str, truth: str, response: Response) -> bool:
    """Whether a letter is the true option; options with equal texts are the same option.

    The truth may be a letter in any usual form or the text of an option.
    """
    letter = option_letter(truth, response.choices)
    if letter is None or not response.choices:
        return answer == letter
    texts = [_norm(choice) for choice in response.choices]
    index = ascii_uppercase.index
    return answer == letter or (index(answer) < len(texts) and texts[index(answer)] == texts[index(letter)])


def option_letter(truth: str, choices: Sequence[str]) -> str | None:
    """The letter of a true answer that is given as `B`, `(b)`, `b)` or as the text of an option."""
    letters = Response("", tuple(choices)).letters
    bare = truth.strip().strip("()[].: ").upper()
    if len(bare) == 1 and bare in letters:
        return bare
    texts = [_norm(choice) for choice in choices]
    return letters[texts.index(_norm(truth))] if _norm(truth) in texts else None


def negated(text: str, start: int, end: int) -> bool:
    """Whether what stands at `start:end` is denied: "not (b)", "(b) is wrong"."""
    before = CLAUSE.split(text[:start])[-1]
    after = CLAUSE.split(text[end:])[0]
    return bool(NOT_BEFORE.search(before) or NOT_AFTER.match(after))


def _announced(segment: str, choices: Sequence[str]) -> Found:
    found = _head(segment, choices)
    if found is None:
        line = first_line(segment)
        found = _chosen(line, choices) or _mentioned(line, choices) or _worded(line, choices) or _valued(line, choices)
    return found or Found(None, NONE)


def _without_replies(segment: str, choices: Sequence[str]) -> str:
    """Takes the texts of options such as "No." away from behind their letters: they take nothing back."""
    for letter, choice in zip(ascii_uppercase, choices, strict=False):
        if choice.strip() and TAKEN_BACK.search(f".{choice}."):
            own = rf"([(\[]?\b{letter}\b[)\].:]*)\s*{re.escape(choice.strip())}"
            segment = re.sub(own, r"\1", segment, flags=re.IGNORECASE)
    return segment


def _restated(afterthought: str, choices: Sequence[str]) -> Found | None:
    """The option that an afterthought states: in so many words at its end, or with its first words."""
    text = afterthought.strip().lstrip(",.:;!?- ")
    return _chosen(text, choices) or _head(text, choices)


def _contradiction(segment: str, choices: Sequence[str]) -> Found | None:
    """What the sentences behind an announced answer state, in its own paragraph."""
    _, *later = sentences(segment.split("\n\n")[0][-LONGEST_AFTERTHOUGHT:]) or [""]
    stated = (_chosen(sentence, choices) for sentence in reversed(later))
    return next((found for found in stated if found is not None), None)


def _head(segment: str, choices: Sequence[str]) -> Found | None:
    bracketed = BRACKETED.match(segment)
    if bracketed:
        return _settle(segment, bracketed.end(), bracketed.group(1), choices)
    bare = BARE.match(segment)
    if bare and _stands_alone(segment, bare, choices):
        return _settle(segment, bare.end("letter"), bare["letter"], choices)
    line = first_line(segment)
    match = re.match(LEAD, line, re.IGNORECASE)
    rest = line[match.end() :] if match else line
    for start in (rest, ARTICLE.sub("", rest, count=1) if ARTICLE.match(rest) else rest):
        for index in _longest_first(choices):
            spot = _find(start, choices[index])
            if spot is not None and spot[0] == 0 and not _number(choices[index]):
                both = _paired(
                    start[spot[1] :], [choice for choice in choices if _norm(choice) != _norm(choices[index])]
                )
                if both or negated(start, *spot):
                    return Found(None, AMBIGUOUS) if both else None
                return _letter(index, TEXT)
    return _valued(rest, choices, head=True)


def _stands_alone(segment: str, match: re.Match[str], choices: Sequence[str]) -> bool:
    letter, end = match["letter"], match["end"]
    if end.strip() or "\n" in end or not segment[match.end() :].strip():
        return not NAMED.search(match["lead"])
    rest = segment[match.end("letter") :]
    if letter in "aA" and not re.search(r"option|choice|letter", match["lead"], re.IGNORECASE):
        article = any(_begins(rest, choice) for choice in choices if _number(choice) is None)
        return letter == "A" and not article and bool(REASON.match(rest))
    index = ord(letter.upper()) - ord("A")
    return letter.isupper() and (bool(REASON.match(rest)) or (index < len(choices) and _begins(rest, choices[index])))


def _settle(segment: str, end: int, letter: str, choices: Sequence[str]) -> Found | None:
    rest = segment[end:].split("\n\n")[0]
    second = SECOND.match(rest)
    if second and second.group(second.lastindex or 0).upper() != letter.upper():
        return Found(None, AMBIGUOUS)
    if NOT_AFTER.match(CLAUSE.split(rest)[0]):
        return None
    return _offered(letter, choices, "letter")


def _offered(letter: str, choices: Sequence[str], rule: str) -> Found:
    letter = letter.upper()
    return Found(letter, rule) if letter in Response("", tuple(choices)).letters else Found(None, FOREIGN)


def _chosen(text: str, choices: Sequence[str]) -> Found | None:
    spots = [match for pattern in (CHOSEN, APPROVED) for match in pattern.finditer(text)]
    spots = [match for match in spots if not negated(text, *match.span()) and not NAMED.search(text[: match.start()])]
    if not spots:
        return None
    last = max(spots, key=lambda match: match.end())
    return _offered(last.group(1) or last.group(2), choices, "statement")


def _mentioned(text: str, choices: Sequence[str]) -> Found | None:
    spots = [match for match in MENTION.finditer(text) if not NAMED.search(text[: match.start()])]
    letters = [(m.group(1) or m.group(2)).upper() for m in spots if not negated(text, *m.span())]
    if not letters:
        return None
    return _offered(letters[0], choices, "mentioned letter") if len(set(letters)) == 1 else Found(None, AMBIGUOUS)


def named_options(text: str, choices: Sequence[str]) -> list[tuple[int, tuple[int, int]]]:
    """Options whose text stands in a text, with their places; not inside the text of a longer option."""
    found: list[tuple[int, tuple[int, int]]] = []
    for index in _longest_first(choices):
        for start, end in _finditer(text, choices[index]):
            if not any(first <= start and end <= last for _, (first, last) in found):
                found.append((index, (start, end)))
    return found


def _worded(text: str, choices: Sequence[str]) -> Found | None:
    spots = [(index, spot) for index, spot in named_options(text, choices) if _number(choices[index]) is None]
    named = [index for index, spot in spots if not negated(text, *spot)]
    if not named:
        return None
    equal = len({_norm(choices[index]) for index in named}) == 1
    return _letter(min(named), TEXT) if equal else Found(None, AMBIGUOUS)


def _valued(text: str, choices: Sequence[str], head: bool = False) -> Found | None:
    if head:
        lead = numbers.leading(text)
        number = None if lead is None or numbers.CONTINUED.match(lead[1]) else lead[0]
    else:
        number = numbers.result(text)
    if number is None:
        return None
    values = [_number(choice) for choice in choices]
    fits = [index for index, option in enumerate(values) if option is not None and numbers.same(option, number)]
    texts = {_norm(choices[index]) for index in fits}
    if not fits:
        return None
    return _letter(fits[0], "option value") if len(texts) == 1 else Found(None, AMBIGUOUS)


def _unmarked(text: str, choices: Sequence[str]) -> Found:
    listed = re.findall(r"^\W*([A-Za-z])[.)\]:]", text, re.MULTILINE)
    if len({letter.upper() for letter in listed}) > 1 and len(listed) == len(text.splitlines()):
        return Found(None, AMBIGUOUS)
    last = (sentences(text) or [""])[-1]
    for read in (_chosen, _mentioned, _worded, _valued):
        found = read(last, choices)
        if found is not None:
            return found
    if "\n" in text:
        return _head(last, choices) or Found(None, NONE)
    return Found(None, NONE)


def _letter(index: int, rule: str) -> Found:
    return Found(ascii_uppercase[index], rule)


def _number(choice: str) -> Fraction | None:
    lead = numbers.leading(plain(choice))
    if lead is None or lead[0] is None:
        return None
    return lead[0] if re.fullmatch(r"\s*(?:°|%|[mglsh]|(?:square |cubic )?[a-zA-Z]{2,10}[²³]?)?\.?", lead[1]) else None


def _norm(text: str) -> str:
    return re.sub(r"\s+", " ", plain(text)).strip().rstrip(".").casefold()


def _longest_first(choices: Sequence[str]) -> Iterable[int]:
    return sorted(range(len(choices)), key=lambda index: -len(choices[index]))


def _finditer(text: str, choice: str) -> Iterable[tuple[int, int]]:
    words = [re.escape(word) for word in _norm(choice).split(" ")]
    if len(words) > 1 and words[0] in ("a", "an", "the"):
        words[:2] = [rf"(?:{words[0]}\s+)?{words[1]}"]
    pattern = r"(?<![\w.])" + r"\s+".join(words) + r"(?!\w|[.,]\d)"
    return (match.span() for match in re.finditer(pattern, text, re.IGNORECASE)) if any(words) else ()


def _paired(rest: str, others: Sequence[str]) -> bool:
    joint = re.match(r"\s*(?:,|/|&|and\b|or\b)\s*(?:or\b\s*)?", rest, re.IGNORECASE)
    return joint is not None and any(_begins(rest[joint.end() :], other) for other in others)


def _begins(text: str, choice: str) -> bool:
    spot = _find(text.strip(), choice)
    return spot is not None and spot[0] == 0


def _find(text: str, choice: str) -> tuple[int, int] | None:
    return next(iter(_finditer(text, choice)), None)
