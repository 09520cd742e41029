# SPDX-License-Identifier: Apache-2.0
"""Stages are found by name, and broken ones are told whose they are."""

from importlib.metadata import EntryPoint

import pytest

from llamafactory_mmself.plugin import registry


@pytest.fixture
def points(monkeypatch):
    """Registers entry points instead of the installed ones."""

    def register(*pairs):
        found = [EntryPoint(name, value, registry.STAGE_GROUP) for name, value in pairs]
        monkeypatch.setattr(registry, "entry_points", lambda group: found)
        for function in (registry.stage_entry_points, registry.load_stage, registry.load_arguments):
            function.cache_clear()

    yield register
    monkeypatch.undo()
    for function in (registry.stage_entry_points, registry.load_stage, registry.load_arguments):
        function.cache_clear()


@pytest.mark.parametrize("spelling", ["mdpo", "MDPO", " MDpo "])
def test_spellings(spelling):
    assert registry.resolve_stage(spelling) == "mdpo"


def test_hyphens_are_underscores(points):
    points(("Sherlock-DPO", "somewhere:STAGE"))
    assert registry.resolve_stage("sherlock_dpo") == registry.resolve_stage("SHERLOCK-dpo") == "sherlock_dpo"


def test_names_are_read_without_importing(points):
    points(("ghost", "no_such_module:STAGE"))
    assert list(registry.stage_entry_points()) == ["ghost"]
    with pytest.raises(registry.StageError, match=r"Stage `ghost`.*cannot be loaded.*no_such_module"):
        registry.load_stage("ghost")


def test_stock_names_and_doubles_are_refused(points):
    points(("DPO", "somewhere:STAGE"))
    with pytest.raises(registry.StageError, match="one of LLaMA-Factory's own"):
        registry.stage_entry_points()
    points(("twin", "one:STAGE"), ("twin", "two:STAGE"))
    with pytest.raises(registry.StageError, match="Two packages register stage `twin`"):
        registry.stage_entry_points()


def test_incomplete_stages_are_refused(points):
    points(("half", "textwrap:dedent"))
    with pytest.raises(registry.StageError, match="lacks name, base, arguments, help, inert, pref_losses, check, run"):
        registry.load_stage("half")


class Stage:
    """A stage whose arguments are not where it says."""

    arguments = "nowhere"
    name, base, help, inert, pref_losses = "broken", "sft", "does nothing.", frozenset(), ("its_own",)

    def check(self, run, given): ...

    def run(self, run, callbacks): ...


STAGE = Stage()


@pytest.mark.parametrize("arguments", ["no_such_module:Arguments", "textwrap:Arguments", "Arguments"])
def test_stages_whose_arguments_cannot_be_loaded_are_named(points, monkeypatch, arguments):
    monkeypatch.setattr(Stage, "arguments", arguments)
    points(("broken", f"{__name__}:STAGE"))
    with pytest.raises(registry.StageError, match=f"Arguments of stage `broken`.*{arguments}.*cannot be loaded"):
        registry.load_arguments("broken")


def test_losses_of_other_packages_stages_are_known_by_their_stage(points):
    points(("broken", f"{__name__}:STAGE"), ("ghost", "no_such_module:STAGE"))
    assert registry.pref_losses() == {"its_own": "broken"}


def test_importing_a_stage_and_its_arguments_is_cheap():
    import subprocess
    import sys

    code = (
        "import sys; from llamafactory_mmself.plugin.registry import load_arguments; load_arguments('mdpo');"
        "print([name for name in ('torch', 'transformers', 'llamafactory') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
