# SPDX-License-Identifier: Apache-2.0
"""A run as one HTML page that needs nothing else: no scripts, no requests, pictures inside."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ..data.questions import Question
from ..evaluate.answers import percent, span
from ..evaluate.charts import DARK, LIGHT, data_url
from ..evaluate.page_style import card, chart, document
from ..recipes.records import Checked
from .report import LABELS, conditions, figures, points, task_conditions, task_table
from .view import CORRECTIONS, IterationView, RunView


_SHOWN = 9  # questions
_SIDE = 320  # pixels of an embedded picture, at most
_CAPTIONS = {
    "accuracy": "Accuracy on the held-out questions. Bands: 95 % confidence (Wilson).",
    "tasks": "Tasks, from the bad end of their scale to the good end. Bands: 95 % confidence (bootstrap).",
    "kinds": "Training examples of each kind.",
    "time": "Wall time of the steps.",
}
_PURPOSES = {"test_greedy": "greedy", "test_samples": "samples", "test_select": "selected"}
_TITLES = {"r3v": "R3V", "stl": "STL", "sherlock": "Sherlock", "ares": "ARES"}


def page(run: RunView) -> str:
    """The page of a run."""
    method = str(run.settings.get("method", ""))
    title = f"{_TITLES.get(method, method)}: {run.folder.resolve().name}"
    parts = [_head(run, title), _cards(run), _charts(run), _accuracy(run), _tasks(run)]
    parts += [_questions(run), _examples(run)]
    parts.append(_settings(run))
    return document(title, parts)


def _head(run: RunView, title: str) -> str:
    state = "finished" if run.finished else f"at work on {run.current}" if run.current else "not finished"
    facts = [state, f"base model {run.settings.get('base_model')}", f"seed {run.settings.get('seed')}"]
    return f'<h1>{escape(title)}</h1><p class="soft">{escape(" · ".join(facts))}</p>'


def _cards(run: RunView) -> str:
    tested = [view for view in run.iterations if "test" in view.scores]
    if not tested:
        return ""
    cards = []
    for view in dict.fromkeys((tested[0].number, tested[-1].number)):
        score = next(item for item in tested if item.number == view).scores["test"]
        name = "at the start" if view == 0 else f"after iteration {view}"
        note = f"95 %: {span(score.interval)} · {score.unparsed} of {score.n} unparsed"
        cards.append(card(f"Test@1 {name}", f"{percent(score.accuracy)} %", note))
    last = tested[-1]
    if last.gain is not None:
        ends = last.gain.interval
        sure = "good" if ends.low > 0 else "bad" if ends.high < 0 else ""
        note = f"points; 95 %: {points(ends.low)} to {points(ends.high)}, paired bootstrap"
        cards.append(card("gain", points(last.gain.value), note, sure))
    if "select" in last.scores:
        best = last.scores["select"]
        note = f"95 %: {span(best.interval)} · {best.unparsed} of {best.n} unparsed"
        cards.append(card(f"{best.name}, iteration {last.number}", f"{percent(best.accuracy)} %", note))
    return f'<div class="cards">{"".join(cards)}</div>'


def _charts(run: RunView) -> str:
    light, dark = figures(run, LIGHT), figures(run, DARK)
    items = [chart(light[name], dark[name], _CAPTIONS[name], name == "accuracy") for name in light]
    return f'<h2>Curves</h2><div class="charts">{"".join(items)}</div>' if items else ""


def _accuracy(run: RunView) -> str:
    if not run.methods:
        return ""
    names = {item.method: item.name for view in run.iterations for item in view.scores.values()}
    titles = [
        "iteration",
        *(names[method].replace(method, LABELS[method]) for method in run.methods),
        "gain of test@1",
    ]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(_accuracy_row(view, run.methods, run.label(view.number)) for view in run.iterations)
    notes = "".join(f'<p class="small soft">{escape(line)}</p>' for line in conditions(run).split("\n"))
    return (
        f'<h2>Accuracy</h2><div class="card"><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div><p></p>{notes}"
    )


def _tasks(run: RunView) -> str:
    if not run.tasks:
        return ""
    header, rows = task_table(run)
    head = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    notes = "".join(f'<p class="small soft">{escape(line)}</p>' for line in task_conditions(run).split("\n"))
    return (
        f'<h2>Tasks</h2><div class="card"><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div><p></p>{notes}"
    )


def _accuracy_row(view: IterationView, methods: Sequence[str], label: str) -> str:
    cells = [f"<b>{view.number}</b>" + (f'<div class="small soft">{escape(label)}</div>' if label else "")]
    for method in methods:
        item = view.scores.get(method)
        note = "" if item is None else f"{span(item.interval)} · {item.unparsed} unparsed"
        cells.append(_number("–" if item is None else f"{percent(item.accuracy)} %", note))
    gain = view.gain
    note = "" if gain is None else f"{points(gain.interval.low)} to {points(gain.interval.high)}"
    cells.append(_number("–" if gain is None else points(gain.value), note))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _number(value: str, note: str) -> str:
    return f'<b>{escape(value)}</b><div class="small soft">{escape(note)}</div>'


def chosen_questions(run: RunView, count: int = _SHOWN) -> list[Question]:
    """Questions worth a look: in turn learnt ones, lost ones, and others, as the greedy answers say."""
    answered = [view for view in run.iterations if "test_greedy" in view.answers]
    if not answered:
        return []
    first, last = (view.answers["test_greedy"] for view in (answered[0], answered[-1]))
    groups: dict[str, list[Question]] = {"learnt": [], "lost": [], "never": [], "kept": []}
    for question in run.questions:
        if question.id in first and question.id in last:
            outcome = (first[question.id][0].verdict.correct, last[question.id][0].verdict.correct)
            name = {(False, True): "learnt", (True, False): "lost", (False, False): "never", (True, True): "kept"}
            groups[name[outcome]].append(question)
    chosen: list[Question] = []
    while len(chosen) < count and any(groups.values()):
        chosen += [group.pop(0) for group in groups.values() if group]
    return chosen[:count]


def _questions(run: RunView) -> str:
    chosen = chosen_questions(run)
    if not chosen:
        return ""
    note = (
        "Marks show the answer that the verifier read; green is right, red is wrong, grey could not be read. "
        "Questions are picked in turn from those learnt, lost, never solved and solved all along."
    )
    cards = "".join(_question(question, run.iterations) for question in chosen)
    return f'<h2>Questions and answers</h2><p class="small soft">{note}</p>{cards}'


def _question(question: Question, iterations: Sequence[IterationView]) -> str:
    rows = []
    for view in iterations:
        cells, texts = [], []
        for purpose in view.answers:
            label = _PURPOSES.get(purpose) or f"correction {purpose.removeprefix(CORRECTIONS)}"
            found = view.answers.get(purpose, {}).get(question.id, ())
            if found:
                marks = " ".join(_mark(item) for item in found)
                cells.append(f'<span class="what">{label}</span> {marks}')
                texts += [f"<pre>{label}: {escape(item.sample.text)}</pre>" for item in found]
        if cells:
            rows.append(
                f'<div class="row"><span class="who">iter{view.number}</span>{"".join(cells)}'
                f"<details><summary>texts</summary>{''.join(texts)}</details></div>"
            )
    return (
        f'<div class="card question"><div>{_pictures(question.images)}</div><div>'
        f'<div class="asked">{escape(question.block)}</div><div class="small soft">truth: '
        f"<b>{escape(question.answer)}</b> · {escape(question.id)}</div>{''.join(rows)}</div></div>"
    )


def _mark(item: Checked) -> str:
    verdict = item.verdict
    state, sign = ("right", "✓") if verdict.correct else ("wrong", "✗") if verdict.parsed else ("unparsed", "?")
    read = escape(verdict.answer) if verdict.answer is not None else "unparsed"
    return f'<span class="mark {state}" title="{state}: {read} ({escape(verdict.rule)})">{sign} {read}</span>'


def _examples(run: RunView) -> str:
    parts = []
    for kind in run.kinds:
        view = next(item for item in reversed(run.iterations) if kind in item.examples)
        rows = "".join(_example(row, kind, view.number) for row in view.examples[kind])
        count = f"{view.kinds[kind]} in iteration {view.number}"
        parts.append(f'<p><span class="tag">{escape(kind)}</span><span class="soft small">{count}</span></p>{rows}')
    return f"<h2>What it was trained on</h2>{''.join(parts)}" if parts else ""


def _example(row: Any, kind: str, number: int) -> str:
    turns = row["conversations"]
    learnt = {"answer": turns[-1]["value"]} if kind == "question" else {"to learn": turns[-1]["value"]}
    if "chosen" in row:
        given, gone = row["prefix"], row["prefix_l"]
        learnt = {"given": given, "chosen": row["chosen"]["value"][len(given) :]}
        learnt |= {"given to go wrong from": gone} if gone != given else {}
        learnt |= {"rejected": row["rejected"]["value"][len(gone) :]}
    texts = "<p></p>".join(
        f'<div class="label">{escape(label)}</div><pre>{escape(text)}</pre>' for label, text in learnt.items() if text
    )
    source = json.dumps(row["provenance"], ensure_ascii=False, indent=2)
    return (
        f'<div class="card example"><div>{_pictures(row["images"])}</div><div><div class="label">asked</div>'
        f"<pre>{escape(turns[0]['value'])}</pre><p></p>{texts}<p></p>"
        f"<details><summary>where it comes from</summary><pre>{escape(str(row.get('id', '')))}\n{escape(source)}</pre>"
        "</details></div></div>"
    )


def _settings(run: RunView) -> str:
    rows = []
    for name, value in run.settings.items():
        shown = escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1))
        shown = f"<pre>{shown}</pre>" if isinstance(value, dict) and value else shown
        rows.append(f"<tr><td>{escape(name)}</td><td>{shown}</td></tr>")
    return f'<h2>Settings</h2><div class="card"><table class="plain">{"".join(rows)}</table></div>'


def _pictures(images: Sequence[str]) -> str:
    return "".join(_embedded(Path(image)) for image in images)


def _embedded(path: Path) -> str:
    try:
        with Image.open(path) as image:
            image.thumbnail((_SIDE, _SIDE))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "PNG", optimize=True)
    except OSError:
        return f'<div class="gone">{escape(path.name)} cannot be opened</div>'
    return f'<img src="{data_url(buffer.getvalue(), "image/png")}" alt="{escape(path.name)}">'
