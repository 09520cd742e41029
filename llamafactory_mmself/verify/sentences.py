# SPDX-License-Identifier: Apache-2.0
"""Sentences of a rationale, with the characters and the tokens at which they end.

Texts are split as texts, whatever the tokenizer; each end is then mapped to the token that completes it. Decimals,
abbreviations, initials and numbers of list items end nothing; line breaks, ellipses and the full stops of Chinese and
Japanese do.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal


VERSION = "sentences-1"

Quirks = Literal["fixed", "published"]

PREFIX = "Solution:"

_ENDERS = ".!?…"
_WIDE = "。！？｡"
_CLOSERS = "\"'”’»)]}」』】）》*_`"
_ABBREVIATIONS = frozenset(
    {
        *("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "gen", "col", "capt", "lt", "rev", "hon", "gov", "sen"),
        *("e.g", "i.e", "vs", "etc", "cf", "approx", "ca", "al", "inc", "ltd", "co", "corp", "dept", "est", "mt"),
        *("a.m", "p.m", "u.s", "u.k", "u.n", "d.c", "ph.d", "b.c", "a.d"),
    }
)
#: Abbreviations that often stand at the end of a sentence: they end one when a capital letter follows.
_LAST_WORDS = frozenset(
    {"etc", "inc", "ltd", "co", "corp", "a.m", "p.m", "u.s", "u.k", "u.n", "d.c", "b.c", "a.d", "al"}
)
#: Abbreviations before numbers only.
_NUMBERED = frozenset({"no", "nos", "fig", "figs", "eq", "sec", "ch", "p", "pp", "vol", "ex"})
#: Words before a single letter that names something, and no initial of a person.
_LETTERED = frozenset(
    {
        "option",
        "answer",
        "choice",
        "figure",
        "point",
        "step",
        "solution",
        "table",
        "letter",
        "part",
        "pair",
        "is",
        "and",
    }
)
_WORD = re.compile(r"[^\s()\[\]{}\"“”,;:]+$")
_DOTTED = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_ANSWER = re.compile(
    r"(?:so |thus |therefore,? |hence,? )?(?:the )?(?:final |correct |right )?"
    r"(?:answer|choice|option)(?: is| ?:)\s*:?\s*\W*[A-Za-z0-9].{0,60}",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Span:
    """A sentence of a text.

    Attributes:
        text: the sentence, blanks around it left out.
        start: offset of its first character in the whole text.
        end: offset after its last character.
    """

    text: str
    start: int
    end: int


def sentences(text: str, *, finished: bool = True, quirks: Quirks = "fixed") -> list[Span]:
    """Splits a rationale into sentences.

    Args:
        text: the rationale; a leading "Solution:" belongs to no sentence.
        finished: whether the text came to its end; what a cut text ends with, without a full stop, is no sentence.
        quirks: `published` splits as the published rules for T5's tokens do (see `published_ends`).
    """
    if quirks == "published":
        return _published(text, finished)
    start = _after_prefix(text)
    found: list[Span] = []
    for end, closed in _breaks(text, start):
        span = _span(text, start, end)
        if span is None and found and text[start:end].strip():
            found[-1] = Span(text[found[-1].start : end].rstrip(), found[-1].start, end)
        elif span is not None and (closed or finished):
            found.append(span)
        start = end
    return found


def without_answer(spans: Sequence[Span]) -> list[Span]:
    """The sentences before the announced answer ("The answer is (B).", "Answer: B"), which is no reasoning."""
    kept = list(spans)
    while kept and _ANSWER.fullmatch(kept[-1].text):
        kept.pop()
    return kept


def token_ends(ids: Sequence[int], ends: Iterable[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """For each character offset the place of the first token that completes the text up to it.

    Tokens are decoded as they were sampled, so that nothing is tokenised again; a character whose bytes are spread
    over several tokens is complete with the last of them.

    Args:
        ids: tokens of the text, end of sequence and the like included.
        ends: offsets after a character of the decoded text.
        decode: token ids to text, special tokens left out.

    Raises:
        ValueError: an offset lies behind the text.
    """
    whole = decode(ids)

    def complete(place: int) -> int:
        part = decode(ids[: place + 1])
        while part.endswith("\ufffd") and not whole.startswith(part):
            part = part[:-1]
        return len(part)

    found = []
    for end in ends:
        if not 0 < end <= len(whole):
            raise ValueError(f"Offset {end} is not within a text of {len(whole)} characters.")
        found.append(bisect_left(range(len(ids)), end, key=complete))
    return found


def distinct_sentences(text: str, *, finished: bool = True, quirks: Quirks = "fixed") -> str:
    """The text without sentences that it has said before: what the teacher gets to correct.

    A cut last sentence is kept, for the teacher to complete, unless it ends in a colon.

    Args:
        text: a rationale.
        finished: whether it came to its end.
        quirks: `published` splits as the published code does, keeps a first sentence that bears "Solution:" apart from
            its repeats, and compares nothing but whole strings; otherwise case and blanks do not count.
    """
    if quirks == "published":
        return _published_distinct(text)
    spans = sentences(text, finished=True)
    if not finished and spans and spans[-1].text.endswith(":"):
        spans.pop()
    seen: set[str] = set()
    parts: list[str] = []
    before = 0
    for span in spans:
        same = " ".join(span.text.casefold().split())
        if same not in seen:
            gap = "\n" if parts and "\n" in text[before : span.start] else " "
            parts += [gap, span.text] if parts else [span.text]
        seen.add(same)
        before = span.end
    return "".join(parts)


def repeated_share(spans: Sequence[Span]) -> float:
    """Share of sentences that were said before, from 0 to 1."""
    texts = [" ".join(span.text.casefold().split()) for span in spans]
    return 1 - len(set(texts)) / len(texts) if texts else 0.0


def _after_prefix(text: str) -> int:
    blank = len(text) - len(text.lstrip())
    return blank + len(PREFIX) if text[blank:].startswith(PREFIX) else blank


def _span(text: str, start: int, end: int) -> Span | None:
    """The sentence between two breaks; None if there is no letter or digit in it."""
    piece = text[start:end]
    bare = piece.strip()
    if not any(letter.isalnum() for letter in bare):
        return None
    first = start + len(piece) - len(piece.lstrip())
    return Span(bare, first, first + len(bare))


def _breaks(text: str, start: int) -> Iterable[tuple[int, bool]]:
    """Offsets after sentences, and whether a mark or a line break ends them."""
    place, begin = start, start
    while place < len(text):
        letter = text[place]
        if letter == "\n":
            yield place + 1, True
            place = begin = place + 1
        elif letter in _WIDE or (letter in _ENDERS and _ends(text, begin, place)):
            place += 1
            while place < len(text) and text[place] in _ENDERS + _WIDE + _CLOSERS:
                place += 1
            yield place, True
            begin = place
        else:
            place += 1
    if begin < len(text):
        yield len(text), False


def _ends(text: str, begin: int, place: int) -> bool:
    """Whether the mark at `place` ends the sentence that begins at `begin`."""
    following = text[place + 1 : place + 2]
    if text[place] != "." or following in ".!?…":
        return following not in _ENDERS or following == ""
    if text[place - 1 : place] in (".", "…"):  # the last of an ellipsis
        return not following.isalnum()
    if following.islower() or following.isdigit():
        return False
    match = _WORD.search(text[begin:place])
    word = "" if match is None else match[0].strip(_CLOSERS)
    rest = text[place + 1 :].lstrip(" \t")
    if word.isdigit() and not text[begin : place - len(word)].strip():
        return not rest or rest[0] == "\n"  # the number of a list item
    name = word.casefold()
    if _DOTTED.fullmatch(word) and following.isalpha():
        return False
    if name in _ABBREVIATIONS:
        return not rest or rest[0] == "\n" or (name in _LAST_WORDS and rest[:1].isupper())
    if _DOTTED.fullmatch(word):
        return not rest or rest[0] == "\n" or rest[:1].isupper()
    if name in _NUMBERED and rest[:1].isdigit():
        return False
    if len(word) == 1 and word.isupper():
        return not _initial(text[begin : place - 1].rstrip(), rest, following)
    return True


def _initial(before: str, rest: str, following: str) -> bool:
    """Whether a capital letter with a full stop is part of a name or an abbreviation."""
    if following.isalpha():  # U.S.A.
        return True
    if not rest[:1].isupper():
        return False
    previous = before.split()[-1].strip(_CLOSERS + "(") if before.split() else ""
    if not previous:
        return True
    return (previous[:1].isupper() or previous.endswith(".")) and previous.casefold() not in _LETTERED


# The published rules. They work on pieces of T5's tokenizer, of which these are the ones that matter.

_START = "\u2581"
_SPECIAL = frozenset({"!", "?", "...", "....", ".....", "1.", "2.", ").", "1).", "2).", "...).", "”)."})
_TITLES = frozenset({"St", "Dr", "Mr", "Mrs"})
END_OF_SEQUENCE = "</s>"
PADDING = "<pad>"
#: T5's piece 25072, after which "1." and "2." end a sentence at once.
MARK = "<25072>"
_PIECES = re.compile(r"(?P<blank>^|\s+)?(?P<piece>\.{3,5}\)?\.?|[12]\)?\.(?!\d)|”\)\.|\)\.|\w+|[^\w\s])")


def published_pieces(text: str, finished: bool) -> list[tuple[str, int]]:
    """Pieces much like T5's, each with the offset after it; a piece that begins a word begins with a mark."""
    pieces = []
    for match in _PIECES.finditer(text):
        head = _START if match["blank"] is not None and match["piece"][0] not in ".!?" else ""
        pieces.append((head + match["piece"], match.end()))
    return [*pieces, (END_OF_SEQUENCE, len(text))] if finished else pieces


def published_ends(pieces: Sequence[str]) -> list[bool]:
    """Which pieces end a sentence by the published rules; a start token is the first piece."""
    return [place > 0 and _published_end(pieces, place) for place in range(len(pieces))]


def _published_end(pieces: Sequence[str], place: int) -> bool:
    def at(offset: int) -> str:
        where = place + offset
        return pieces[where].lstrip(_START) if 0 <= where < len(pieces) else ""

    piece = at(0)
    if piece == END_OF_SEQUENCE:
        return at(-1) not in {".", ":", *_SPECIAL}
    if piece in ("1.", "2.") and at(-1) == MARK:
        return True
    if piece == "." and (at(-3), at(-2), at(-1)) == ("com", "m", "a"):
        return True
    if piece != "." and piece not in _SPECIAL:
        return False
    if piece == "." and (at(-2), at(-1)) == ("Solution", ":"):
        return False
    if (at(-3), at(-2), at(-1), at(1)) == ("D", ".", "C", ","):
        return False
    if at(-1) in _TITLES or "." in (at(1), at(2), at(3)):
        return False
    following = pieces[place + 1] if place + 1 < len(pieces) else ""
    return not following[:1].isdigit()


def _published(text: str, finished: bool, *, keep_prefix: bool = False) -> list[Span]:
    pieces = published_pieces(text, finished)
    ends = published_ends([PADDING, *(piece for piece, _ in pieces)])[1:]
    found: list[Span] = []
    start = 0
    for (_, end), closes in zip(pieces, ends, strict=True):
        if not closes:
            continue
        piece = text[start:end]
        first = start + len(piece) - len(piece.lstrip())
        bare = piece.strip()
        while not found and not keep_prefix and bare.startswith(PREFIX):
            cut = len(bare) - len(bare[len(PREFIX) :].lstrip())
            bare, first = bare[cut:], first + cut
        if bare.startswith("n"):  # left over of a line feed that T5 cannot write
            bare, first = bare[1:], first + 1
        if bare:
            found.append(Span(bare, first, first + len(bare)))
        start = end
    return found


def _published_distinct(text: str) -> str:
    kept = list(dict.fromkeys(span.text for span in _published(text, True, keep_prefix=True)))
    if kept:
        kept[0] = kept[0].removeprefix(PREFIX).strip()
    if kept and kept[-1].endswith(":"):
        kept.pop()
    return " ".join(kept)
