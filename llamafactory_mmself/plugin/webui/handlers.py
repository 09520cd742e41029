# SPDX-License-Identifier: Apache-2.0
"""What the tab Self-improve does: each handler takes values of components and returns updates.

Nothing is kept here between calls but what can be read again from files, so that a reloaded page, a second browser and
a restarted web UI see the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ...board import child, launch, progress, runs, samples
from ...board.pages import accuracy_figure, report_html
from ...files import FileError
from .texts import text


VERDICTS = ("all", "right", "wrong", "unparsed")
_STATES = ("none", "starting", "running", "stopped", "failed", "finished")


def _told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """An error that a user can mend becomes a message of the page; `Handlers.failed` says what the outputs get."""

    @wraps(handler)
    def run(self: Handlers, lang: str, *values: Any) -> Any:
        try:
            return handler(self, lang, *values)
        except (ValueError, OSError) as error:
            gr.Warning(escape(str(error))[:2000])
            return self.failed(handler.__name__, str(error))

    return run


class Handlers:
    """Handlers of the tab's events."""

    def __init__(self) -> None:
        self._fields = [setting.name for setting in launch.SETTINGS]

    # Choosing

    def list_recipes(self) -> Any:
        """Presets and example recipes of the folder that the web UI was started in."""
        return gr.update(choices=launch.recipe_choices(Path.cwd()))

    def list_runs(self) -> Any:
        """Runs that can be looked at."""
        return gr.update(choices=runs.known_runs(_cache(), Path.cwd()))

    @_told
    def open_recipe(self, lang: str, recipe: str) -> list[Any]:
        """Shows what a recipe says."""
        values = launch.shown_settings(launch.recipe_values(recipe or ""), recipe)
        return [values["output_dir"], "", "", "", *self._form(recipe, values)]

    def open_run(self, run: str) -> list[Any]:
        """Shows the form that a run was started with.

        A run that was started elsewhere has no form: the recipe is emptied, so that another one's is not started on
        it. A folder that is no run yet leaves the form alone.
        """
        started = child.last_start(Path(run)) if run else None
        form = started.form if started is not None else {}
        recipe = form.get("recipe")
        if not isinstance(recipe, str):
            foreign = bool(run) and (Path(run) / "run.json").is_file()
            return [None if foreign else gr.skip(), *(gr.skip() for _ in range(2 + len(self._fields)))]
        values = {name: str(form.get(name) or "") for name in (*self._fields, "further", "again")}
        return [recipe, values["further"], "", *self._form(recipe, values)]

    def open_page(self) -> list[Any]:
        """Shows the run that is at work, or the newest one."""
        known = runs.known_runs(_cache(), Path.cwd())
        run = runs.run_to_show(known)
        if run is None:
            return [gr.update(choices=known), *(gr.skip() for _ in range(3 + len(self._fields)))]
        return [gr.update(value=run, choices=known), *self.open_run(run)]

    # Running

    @_told
    def plan(self, lang: str, *form: Any) -> Any:
        """What a start would do."""
        command = self._command(*form)
        lines = launch.dry_run(command)
        return _code(f"{launch.command_line(command)}\n\n" + "\n".join(lines))

    @_told
    def start(self, lang: str, *form: Any) -> Any:
        """Starts the loop, or goes on with it."""
        recipe, run, further, _, *fields = form
        command = self._command(*form)
        shown = {name: str(value or "") for name, value in zip(self._fields, fields, strict=True)}
        folder = launch.run_folder(recipe, {**shown, "output_dir": self._base(recipe, run, shown)})
        started = child.start(command, folder, {**shown, "recipe": recipe, "further": further or ""})
        runs.remember(_cache(), folder)
        gr.Info(text("started", lang))
        return _code(started.line), str(folder) if str(folder) != run else gr.skip(), "", None

    @_told
    def stop(self, lang: str, run: str) -> Any:
        """Stops the loop of a run."""
        child.stop(_folder(run))
        gr.Info(text("stopping", lang))
        return text("stopping", lang)

    @_told
    def report(self, lang: str, run: str) -> Any:
        """Writes the report of what there is so far, and shows it."""
        return report_html(_folder(run), text("save_report", lang)), ""

    # Looking

    def look(self, lang: str, run: str, source: str | None, seen: Any) -> list[Any]:
        """What has changed since the last look; nothing is sent if nothing has."""
        if not run or "\0" in run:
            return [gr.skip() for _ in range(5)]
        folder = Path(run)
        now = progress.read_progress(folder)
        words = {name: text(name, lang) for name in _STATES}
        views = (
            progress.progress_html(now, words),
            progress.log_html(folder),
            _scores(folder),
            [item.name for item in samples.sources(folder)],
            lang,
        )
        before = seen if isinstance(seen, tuple) and len(seen) == len(views) else (None,) * len(views)
        same = [one == other for one, other in zip(views, before, strict=True)]
        chosen = source if source in views[3] else (views[3][0] if views[3] else None)
        return [
            gr.skip() if same[0] else views[0],
            gr.skip() if same[1] else views[1],
            gr.skip() if same[2] else accuracy_figure(folder),
            gr.skip() if same[3] and chosen == source else gr.update(choices=views[3], value=chosen),
            views,
        ]

    def look_again(self, lang: str, run: str) -> list[Any]:
        """All there is to see of a run that has just been chosen."""
        if not run or "\0" in run:
            return ["", "", None, gr.update(choices=[], value=None), None, ""]
        return [*self.look(lang, run, None, None), ""]

    def first_page(self, lang: str, run: str, source: str | None, verdicts: str, number: int) -> Any:
        """The first page of a source."""
        return self._page(lang, run, source, verdicts, 0)

    def this_page(self, lang: str, run: str, source: str | None, verdicts: str, number: int) -> Any:
        """The page whose number was typed."""
        return self._page(lang, run, source, verdicts, int(number or 1) - 1)

    def earlier_page(self, lang: str, run: str, source: str | None, verdicts: str, number: int) -> Any:
        """The page before."""
        return self._page(lang, run, source, verdicts, int(number or 1) - 2)

    def later_page(self, lang: str, run: str, source: str | None, verdicts: str, number: int) -> Any:
        """The page after."""
        return self._page(lang, run, source, verdicts, int(number or 1))

    def change_words(self, lang: str) -> Any:
        """Choices that are words, in another language."""
        return gr.update(choices=[(text(f"verdict_{name}", lang), name) for name in VERDICTS])

    # Helpers

    def failed(self, name: str, error: str) -> Any:
        """What a handler returns instead of its result."""
        told = _code(error)
        if name == "open_recipe":
            return [gr.skip(), told, *(gr.skip() for _ in range(2 + len(self._fields)))]
        return {"plan": told, "stop": told, "start": (told, gr.skip(), gr.skip(), gr.skip()), "report": ("", told)}[
            name
        ]

    def _command(self, recipe: str, run: str, further: str, again: str, *fields: Any) -> list[str]:
        shown = {name: str(value or "") for name, value in zip(self._fields, fields, strict=True)}
        shown["output_dir"] = self._base(recipe, run, shown)
        return launch.loop_command(recipe or "", shown, further or "", again or "")

    def _base(self, recipe: str, run: str, shown: dict[str, str]) -> str:
        """The folder that a preset of several runs takes: a run of it lies one level deeper."""
        domain = shown.get("domain") or ""
        deeper = recipe == "stl" and domain and Path(run or "").name == domain
        return str(Path(run).parent) if deeper else run or ""

    def _form(self, recipe: str, values: dict[str, str]) -> list[Any]:
        there = {setting.name for setting in launch.settings_of(recipe)}
        return [gr.update(value=values.get(name) or None, visible=name in there) for name in self._fields]

    def _page(self, lang: str, run: str, source: str | None, verdicts: str, number: int) -> Any:
        if not run or not source:
            return 1, f'<div class="mmself mmself-soft">{escape(text("nothing_yet", lang))}</div>'
        try:
            page = samples.page(Path(run), source, verdicts if verdicts else "all", number)  # type: ignore[arg-type]
        except samples.SampleError as error:
            return 1, f'<div class="mmself"><pre>{escape(str(error))}</pre></div>'
        head = f"{page.number + 1} / {page.pages} · {page.items} {text('items', lang)}"
        head += f" · {text('cut', lang)}" if page.cut else ""
        return page.number + 1, f'<div class="mmself mmself-soft">{escape(head)}</div>{page.html}'


def _scores(folder: Path) -> list[tuple[str, int]]:
    """What the accuracy plot depends on."""
    return [(str(path), path.stat().st_mtime_ns) for path in sorted(folder.glob("iter*/scores.json"))]


def _folder(run: str) -> Path:
    if not run:
        raise FileError("Choose a run first.")
    return Path(run)


def _cache() -> Path:
    from ..lf_web import DEFAULT_CACHE_DIR

    return Path(DEFAULT_CACHE_DIR)


def _code(content: str) -> str:
    """Text as a block of code, whatever is in it."""
    fence = "```"
    while fence in content:
        fence += "`"
    return f"{fence}text\n{content}\n{fence}"
