# SPDX-License-Identifier: Apache-2.0
"""Installing, switching and removing, each in an environment of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


IMPORT_TARGET = """
import watch
from llamafactory.hparams import parser
import llamafactory.hparams
print(parser.original(), watch.patched)
"""
PATCHED = "patched ['llamafactory.hparams.parser']"
UNTOUCHED = "original []"
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"


@pytest.fixture(scope="module")
def venv(make_venv: Callable, wheel: Path):
    """An environment with the wheel and nothing else."""
    venv = make_venv()
    venv.install(wheel)
    return venv


@pytest.mark.parametrize("way", ["wheel", "folder", "editable"])
def test_installing_activates_and_uninstalling_leaves_nothing(
    way: str, make_venv: Callable, wheel: Path, source: Path, fake_llamafactory: Path
) -> None:
    venv = make_venv(libraries=True)
    before = venv.files()
    venv.install(*{"wheel": [wheel], "folder": [source], "editable": ["--editable", source]}[way])
    done = venv.python(IMPORT_TARGET, PYTHONPATH=str(fake_llamafactory))
    assert (done.stdout.strip(), done.stderr) == (PATCHED, "")
    version = venv.python("import llamafactory_mmself as p; print(p.__file__)").stdout.strip()
    assert Path(version).is_relative_to(source if way == "editable" else venv.folder)

    venv.pip("uninstall", "--yes", "llamafactory-mmself")
    assert venv.files() == before
    done = venv.python("import watch\n" + IMPORT_TARGET, PYTHONPATH=str(fake_llamafactory))
    assert (done.stdout.strip(), done.stderr) == (UNTOUCHED, "")


@pytest.mark.parametrize(
    ("value", "at_start", "after_activate"),
    [
        ("", PATCHED, PATCHED),
        ("auto", PATCHED, PATCHED),
        ("ON", PATCHED, PATCHED),
        (" Manual ", UNTOUCHED, PATCHED),
        ("OFF", UNTOUCHED, UNTOUCHED),
    ],
)
def test_the_switch(value: str, at_start: str, after_activate: str, venv, fake_llamafactory: Path) -> None:
    variables = {"PYTHONPATH": str(fake_llamafactory), "LLAMAFACTORY_MMSELF": value}
    done = venv.python(IMPORT_TARGET, **variables)
    assert (done.stdout.strip(), done.stderr) == (at_start, "")
    activate = "from llamafactory_mmself._autoload import activate; print(activate())"
    done = venv.python(activate + IMPORT_TARGET, **variables)
    assert (done.stdout.splitlines(), done.stderr) == ([str(after_activate == PATCHED), after_activate], "")


def test_an_unknown_value_is_reported_once_and_only_when_it_matters(venv, fake_llamafactory: Path) -> None:
    variables = {"PYTHONPATH": str(fake_llamafactory), "LLAMAFACTORY_MMSELF": "yes please"}
    assert venv.python("pass", **variables).stderr == ""
    done = venv.python(IMPORT_TARGET + "import llamafactory.train.tuner", **variables)
    assert done.stdout.strip() == PATCHED
    assert done.stderr.splitlines() == [
        "llamafactory-mmself: LLAMAFACTORY_MMSELF='yes please' is not one of auto, on, manual, off; taken as auto."
    ]


def test_interpreter_start_loads_two_modules_more(venv, make_venv: Callable) -> None:
    loaded = set(json.loads(venv.python(LOADED).stdout))
    without = set(json.loads(make_venv().python(LOADED).stdout))
    assert loaded - without == {"llamafactory_mmself", "llamafactory_mmself._autoload"}


@pytest.mark.parametrize("leftover", [None, "llamafactory_mmself/__pycache__"])
def test_an_activation_file_without_its_package_does_nothing(
    leftover: str | None, make_venv: Callable, project_root: Path
) -> None:
    venv = make_venv()
    shutil.copy(project_root / "llamafactory_mmself_autoload.pth", venv.site_packages)
    if leftover:
        (venv.site_packages / leftover).mkdir(parents=True)
    done = venv.python("print('fine')")
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.parametrize("fault", ["import no_such_module", "raise RuntimeError('broken')"])
def test_a_broken_package_is_not_hidden(fault: str, make_venv: Callable, wheel: Path) -> None:
    venv = make_venv()
    venv.install(wheel)
    (venv.site_packages / "llamafactory_mmself" / "_autoload.py").write_text(fault, encoding="utf-8")
    done = venv.python("print('fine')")
    assert done.stdout == "fine\n"
    assert "llamafactory_mmself_autoload.pth" in done.stderr
    assert fault.split()[-1].strip("()").removeprefix("RuntimeError('").removesuffix("'") in done.stderr


def test_the_commands_are_installed(venv) -> None:
    assert {"bin/mmself", "bin/llamafactory-mmself"} <= venv.files()


@pytest.mark.slow
def test_the_real_parser_is_patched(make_venv: Callable, wheel: Path) -> None:
    venv = make_venv(libraries=True)
    venv.install(wheel)
    done = venv.python(
        "import llamafactory.hparams.parser as parser, inspect\n"
        "from llamafactory_mmself import _autoload\n"
        "from llamafactory_mmself.plugin import activation\n"
        "assert not _autoload.failures(), _autoload.failures()\n"
        "assert not activation.PROBLEMS, activation.PROBLEMS\n"
        "assert 'llamafactory.hparams.parser' in activation.PATCHED\n"
        "assert 'def get_train_args' in inspect.getsource(parser)\n"
    )
    assert "llamafactory-mmself" not in done.stderr
