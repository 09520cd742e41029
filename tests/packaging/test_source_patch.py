# SPDX-License-Identifier: Apache-2.0
"""The patch for LLaMA-Factory's sources, applied to a copy of the installed ones."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


ACTIVE = "import llamafactory; from llamafactory_mmself import _autoload; print(_autoload.is_active())"


@pytest.fixture(scope="module")
def patched(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a patched copy of the installed `llamafactory`."""
    installed = Path(importlib.util.find_spec("llamafactory").origin).parent
    folder = tmp_path_factory.mktemp("patched")
    shutil.copytree(installed, folder / "llamafactory", ignore=shutil.ignore_patterns("__pycache__"))
    patch = project_root / "patches" / "llamafactory-0.9.5-entry-points.patch"
    done = subprocess.run(["git", "apply", "-p2", patch], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "llamafactory" / "extras" / "plugins.py").is_file()
    return folder


@pytest.fixture(scope="module")
def venv(make_venv: Callable, wheel: Path):
    """An environment with the wheel, LLaMA-Factory and its requirements."""
    venv = make_venv(libraries=True)
    venv.install(wheel)
    return venv


@pytest.mark.parametrize(
    ("variables", "active"),
    [
        ({"LLAMAFACTORY_MMSELF": "manual"}, "True"),
        ({"LLAMAFACTORY_MMSELF": "off"}, "False"),
        ({"LLAMAFACTORY_MMSELF": "manual", "DISABLE_PLUGINS": "1"}, "False"),
    ],
)
def test_patched_sources_activate_the_plugin(variables: dict[str, str], active: str, patched: Path, venv) -> None:
    done = venv.python(ACTIVE, PYTHONPATH=str(patched), **variables)
    assert (done.stdout.strip(), done.stderr) == (active, "")


def test_unpatched_sources_do_not(venv) -> None:
    assert venv.python(ACTIVE, LLAMAFACTORY_MMSELF="manual").stdout.strip() == "False"


def test_the_patched_launcher_patches_what_it_imports(patched: Path, venv, fake_llamafactory: Path) -> None:
    code = (
        "import sys; sys.path.append({!r}); import watch, llamafactory, llamafactory.{} as m; print(m, watch.patched)"
    )
    (patched / "llamafactory" / "hparams" / "__init__.py").write_text("", encoding="utf-8")
    (patched / "llamafactory" / "hparams" / "parser.py").write_text("", encoding="utf-8")
    done = venv.python(
        code.format(str(fake_llamafactory), "hparams.parser"), PYTHONPATH=str(patched), LLAMAFACTORY_MMSELF="manual"
    )
    assert str(patched) in done.stdout
    assert done.stdout.strip().endswith("['llamafactory.hparams.parser']")


@pytest.mark.slow
def test_a_broken_plugin_is_named_and_left_out(patched: Path, venv, tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[llamafactory.plugins]\nbrittle = no_such_module:go\n", encoding="utf-8")
    done = venv.python(ACTIVE, PYTHONPATH=f"{patched}:{tmp_path}", LLAMAFACTORY_MMSELF="manual")
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "brittle" in line]
    assert len(lines) == 1 and "no_such_module" in lines[0]
    assert done.stdout.strip().endswith("True")
