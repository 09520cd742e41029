# SPDX-License-Identifier: Apache-2.0
"""What all pages share: the frame, cards and charts, and a style sheet for light and for dark screens.

A page is one HTML file that needs nothing else: no scripts, no requests, pictures inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from .charts import data_url, picture


CSS = """
:root { color-scheme: light dark; --page: #f5f6f9; --card: #ffffff; --ink: #1c2330; --soft: #5c6675; --line: #e1e5ec;
  --accent: #0072b2; --good: #0a7d55; --good-bg: #e2f5ec; --bad: #b3361b; --bad-bg: #fdebe5; --none: #6b7280;
  --none-bg: #eceef2; }
@media (prefers-color-scheme: dark) { :root { --page: #101318; --card: #171b22; --ink: #e6e9ef; --soft: #9aa4b3;
  --line: #2a313c; --accent: #5db3f0; --good: #4fd6a0; --good-bg: #12352a; --bad: #ff9472; --bad-bg: #40211a;
  --none: #a3acba; --none-bg: #262c36; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 72px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.015em; }
h2 { font-size: 1.2rem; margin: 44px 0 12px; letter-spacing: -.005em; }
h3 { font-size: 1rem; margin: 0 0 8px; }
p { margin: 0 0 10px; } .soft { color: var(--soft); } small, .small { font-size: .86rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px; margin: 26px 0 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 18px 20px; }
.number { font-size: 2rem; line-height: 1.15; font-weight: 650; font-variant-numeric: tabular-nums;
  letter-spacing: -.02em; }
.number.good { color: var(--good); } .number.bad { color: var(--bad); }
.label { font-size: .84rem; color: var(--soft); margin-bottom: 4px; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; } .wide { grid-column: 1 / -1; }
@media (max-width: 760px) { .charts { grid-template-columns: 1fr; } }
figure { margin: 0; } figure img { width: 100%; height: auto; display: block; }
figure.wide img { max-width: 860px; margin: 0 auto; }
figcaption { font-size: .84rem; color: var(--soft); margin-top: 8px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-size: .82rem; color: var(--soft); font-weight: 600; } tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; } td.strong { font-weight: 650; }
table.plain td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
table.plain td:first-child { color: var(--soft); width: 200px; }
.question { display: grid; grid-template-columns: 200px 1fr; gap: 22px; margin-bottom: 14px; }
@media (max-width: 620px) { .question { grid-template-columns: 1fr; } }
.question img, .example img { width: 100%; max-width: 200px; border-radius: 8px; border: 1px solid var(--line);
  display: block; margin-bottom: 8px; background: #fff; }
.gone { width: 100%; max-width: 200px; padding: 28px 10px; border-radius: 8px; border: 1px dashed var(--line);
  text-align: center; color: var(--soft); font-size: .84rem; }
.asked { white-space: pre-wrap; margin-bottom: 8px; overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 10px; padding: 8px 0 0; margin-top: 8px;
  border-top: 1px solid var(--line); }
.row .who { width: 54px; font-weight: 600; font-size: .9rem; } .row .what { color: var(--soft); font-size: .84rem; }
.mark { display: inline-block; padding: 1px 9px; border-radius: 999px; font-size: .86rem; max-width: 220px;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; vertical-align: bottom; }
.right { color: var(--good); background: var(--good-bg); } .wrong { color: var(--bad); background: var(--bad-bg); }
.unparsed { color: var(--none); background: var(--none-bg); }
details { width: 100%; } summary { cursor: pointer; color: var(--accent); font-size: .86rem; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 4px; }
pre { margin: 8px 0 0; padding: 12px 14px; border-radius: 8px; background: var(--page); font: .84rem/1.5 ui-monospace,
  SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.example { display: grid; grid-template-columns: 150px 1fr; gap: 18px; margin-bottom: 12px; }
@media (max-width: 620px) { .example { grid-template-columns: 1fr; } }
.tag { display: inline-block; font-size: .8rem; font-weight: 600; padding: 1px 9px; border-radius: 999px;
  color: var(--accent); border: 1px solid currentColor; margin-right: 8px; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page; parts are HTML, empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def card(label: str, number: str, note: str, state: str = "") -> str:
    """A large number with a label above and a note below; `state` is `good`, `bad` or nothing."""
    return (
        f'<div class="card"><div class="label">{escape(label)}</div><div class="number {state}">{escape(number)}</div>'
        f'<div class="small soft">{escape(note)}</div></div>'
    )


def chart(light: Any, dark: Any, caption: str, wide: bool = False) -> str:
    """A matplotlib figure in both themes, as a part of the page."""
    sources = [data_url(picture(figure, "svg"), "image/svg+xml") for figure in (light, dark)]
    return (
        f'<figure class="card{" wide" if wide else ""}"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{sources[1]}">'
        f'<img src="{sources[0]}" alt="{escape(caption)}"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
