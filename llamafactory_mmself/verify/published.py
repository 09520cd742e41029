# SPDX-License-Identifier: Apache-2.0
"""What the published code of R3V and STL does with a text, its known defects included, for comparisons.

Written anew after its behaviour. Where the original throws dice, the answer is unparsed here and never credited:
the rule is `random`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .types import Found, Response


ALPHABET = "ABCDEF"
FAILED = "FAILED"
RANDOM = "random"
SIMILAR = "most similar option"

TABMWP_OPTIONS = (
    r"Answer: ([A-Za-z])",
    r"^\(([A-Za-z])\)$",
    r"^([A-Za-z])$",
    r"^([A-Za-z]). ",
    r"[Th]he answer is ([A-Z])",
    r"^\(([A-Za-z])\) [\s\S]+$",
    r"[Th]he answer is \(([A-Za-z])\) [\s\S]+$",
)
AMOUNT = r"[-\d$.,/:]*\d"
TABMWP_FREE = (
    r"Answer: ([\s\S]+)",
    r"[Th]he answer is ([\s\S]+)$",
    r"[Th]he table shows that ([\d$.,/:]+) ",
    r" = ([\d$.,/:]+)",
    rf"(?<= be| is) ({AMOUNT})",
    rf"(?<= are| was) ({AMOUNT})",
    rf"(?<= were) ({AMOUNT})",
    r" ([\d$.,/:]+ [AP]\.M\.)",
    rf"({AMOUNT})",
)


def geoqa(marker: str, *, any_letter: bool, dice: bool = False) -> Callable[[Response], Found]:
    """Builds one of the published option ladders.

    Args:
        marker: what stands after its last occurrence is read; without one, the whole text.
        any_letter: the last letter of any word is an option.
        dice: the last rung credits three of four texts at random.
    """

    def extract(response: Response) -> Found:
        text = response.text.split(marker)[-1]
        options = list(zip(ALPHABET, response.choices, strict=False))
        found = re.findall(r"\(([A-Za-z])\)", text)
        if found:
            return Found(found[-1].upper(), "last bracketed letter")
        found = re.findall(r"[A-Za-z]", text) if any_letter else []
        if found:
            return Found(found[-1].upper(), "last letter")
        named = [letter for letter, choice in options if choice.lower() in text.lower()]
        if named:
            return Found(named[-1], "last option text")
        words = re.sub(r"[\n.,!?]", " ", text).split(" ")
        for rule, form in (("capital letter", str.upper), ("lower-case letter", str.lower)):
            alone = [letter for letter, _ in options if form(letter) in words]
            if alone:
                return Found(alone[-1], rule)
        return Found(None, RANDOM if dice else FAILED)

    return extract


def m3cot(response: Response) -> Found:
    """The official M3CoT ladder, whose marker is `[Answer]`."""
    text = response.text
    if "[Answer]" in text:
        text = text.split("[Answer]")[-1].split("[Rationale]")[0].split("[Context]")[0]
    return geoqa("[Answer]", any_letter=False)(Response(text, response.choices))


def same_letter(answer: str, truth: str, response: Response) -> bool:
    """The letter itself."""
    return answer == truth.strip().strip("()").upper()


def tabmwp(response: Response, unit: str) -> Found:
    """Extracts and normalises; the original draws an option at random for a label beyond the options."""
    text = re.sub(r"\$?\\frac\{([\d.,\-]+)\}\{([\d.,]+)\}\$?", r"\1/\2", response.text)
    text = re.sub(r"(?<![AP]\.M)\.$", "", text)
    text = re.sub(r"(?<=\d)=(?=[-$\d])", " = ", text).replace("\u2212", "-")
    found = _tabmwp_option(text, response.choices) if response.choices else _tabmwp_free(text)
    if found.answer is None:
        return found
    try:
        return Found(tabmwp_normalize(found.answer, unit), found.rule)
    except (ValueError, ZeroDivisionError, OverflowError):
        return Found("0", "normalisation failed")


def tabmwp_normalize(text: str, unit: str | None) -> str:
    """The published normal form.

    Raises:
        ValueError, ZeroDivisionError: for what looks like a number and is none (`1.2.3`, `5/0`).
    """
    text = re.sub(r"[,./]$", "", re.sub(r"^\$", "", text))
    if not re.match(r"^[-+]?[\d,./]+$", text):
        return text.replace(unit, "").strip() if unit else text
    text = text.replace(",", "")
    if re.match(r"[-+]?\d+$", text):
        number: float = int(text)
    elif "/" in text:
        over, under = text.split("/")[:2]
        number = round(float(over) / float(under), 3)
    else:
        number = round(float(text), 3)
    return re.sub(r"\.0+$", "", str(number))


def _tabmwp_option(text: str, choices: tuple[str, ...]) -> Found:
    for pattern in TABMWP_OPTIONS:
        found = re.findall(pattern, text)
        if found and found[0].upper() in ALPHABET:
            index = ALPHABET.index(found[0].upper())
            return Found(choices[index], "letter") if index < len(choices) else Found(None, RANDOM)
    scores = [_similarity(choice, text) for choice in choices]
    return Found(choices[scores.index(max(scores))], SIMILAR)


def _tabmwp_free(text: str) -> Found:
    for number, pattern in enumerate(TABMWP_FREE, start=1):
        found = re.findall(pattern, text)
        if found:
            answer = found[-1].strip()
            return Found(answer if ".M." in answer else answer.removesuffix("."), f"pattern {number}")
    return Found(text, "whole text")


def _similarity(first: str, second: str) -> float:
    if first == second:
        return 2.0
    if " " not in first and " " not in second:
        return 0.0
    one, two = first.split(" "), second.split(" ")
    return len(set(one) & set(two)) / max(len(one), len(two))


def chartqa(response: Response) -> Found:
    """Everything after the first marker, else the whole text."""
    match = re.search(r"Answer:\s*(.+)\s*$", response.text, re.DOTALL)
    return Found((match.group(1) if match else response.text).strip(), "first marker" if match else "whole text")


def relaxed(answer: str, truth: str, response: Response) -> bool:
    """Floats within 5 % of the truth, or equal texts whatever their case."""
    try:
        if abs(float(answer) - float(truth)) <= 0.05 * abs(float(truth)):
            return True
    except ValueError:
        pass
    return answer.lower().strip() == truth.lower().strip()


def clevr(response: Response) -> Found:
    """A bare 0 to 10, else the digits that follow the first marker."""
    bare = response.text.strip()
    if re.fullmatch(r"[0-9]|10", bare):
        return Found(bare, "whole text")
    match = re.search(r"Answer:\s*(-?\d+)", response.text)
    return Found(match.group(1), "first marker") if match else Found(None, "unknown")


def same_text(answer: str, truth: str, response: Response) -> bool:
    """The same characters."""
    return answer == truth


def stl(response: Response) -> Found:
    """The option of a see-think-answer response."""
    parts = stl_answer(response.text, response.choices)
    return Found(None, "skipped") if parts is None else Found(parts[2].strip("()").upper(), "conclusion")


def stl_answer(text: str, choices: tuple[str, ...]) -> tuple[str, str, str] | None:
    """Caption, rationale and option `(x)` of a response, or None where the published code skips it."""
    caption = _section(r"CAPTION:\s*(.*?)\s*(?:REASONING:|$)", text)
    rationale = _section(r"REASONING:\s*(.*?)\s*(?:CONCLUSION:|$)", text)
    conclusion = _section(r"CONCLUSION:\s*(.*)", text)
    letter = re.search(r"\([a-z]\)", conclusion)
    if letter:
        option = letter.group()
    else:
        lines = ((chr(ord("a") + index), choice.strip()) for index, choice in enumerate(choices))
        named = [f"({name})" for name, choice in lines if re.search(re.escape(choice), conclusion, re.IGNORECASE)]
        option = named[0] if len(named) == 1 else ""
    whole = caption and rationale and option and rationale.count("0") <= 50
    return (caption, rationale, option) if whole else None


def stl_refutation(text: str) -> tuple[str, str] | None:
    """Caption and explanation of a refutation, or None where the published code skips it."""
    caption = _section(r"CAPTION:\s*(.*?)\s*(?:EXPLANATION:|$)", text)
    explanation = _section(r"EXPLANATION:\s*(.*)", text)
    return (caption, explanation) if caption and explanation and explanation.count("0") <= 50 else None


def _section(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL | re.IGNORECASE)
    return match.group(1).strip() if match else ""
