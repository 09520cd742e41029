# SPDX-License-Identifier: Apache-2.0
"""Wheel and source archive in empty environments, with all requirements, on each Python there is: `make test-release`.

Interpreters are looked for on PATH; the environment variable PYTHONS names more, parted by spaces. One that is not
found is listed as skipped. Each environment takes several GB, and is removed before the next is made.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


VERSIONS = ("3.11", "3.12", "3.13")
#: The first run of the README; its folders are beside the example.
COMMANDS = (
    ("mmself", "toy", "model", "--family", "qwen2_vl", "--out", "models/tiny-qwen2-vl"),
    ("llamafactory-cli", "train", "examples/mdpo/orm_tiny.yaml", "max_steps=2", "plot_loss=false"),
)


def _candidates(version: str) -> Iterator[str]:
    named = os.environ.get("PYTHONS", "").split()
    yield from named
    for folder in os.environ["PATH"].split(os.pathsep):
        yield str(Path(folder) / f"python{version}")


def _interpreter(version: str) -> str:
    """Every candidate is run before it is trusted: version managers put names on PATH that fail."""
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in _candidates(version):
        if shutil.which(candidate):
            done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                return candidate
    pytest.skip(f"not run: there is no Python {version} with the module venv")


@pytest.fixture(params=VERSIONS)
def environment(request, tmp_path, clean_environment) -> Iterator[Path]:
    """The folder of commands of an empty environment."""
    folder = tmp_path / "venv"
    subprocess.run([_interpreter(request.param), "-m", "venv", folder], check=True, env=clean_environment())
    yield folder / "bin"
    shutil.rmtree(folder)


@pytest.fixture
def run(environment, clean_environment, tmp_path):
    """Runs a command of the environment in a folder of its own; fails with its output."""
    work = tmp_path / "work"
    work.mkdir()
    variables = clean_environment(PATH=f"{environment}{os.pathsep}{os.environ['PATH']}")

    def call(*command: str | Path) -> str:
        line = [str(environment / command[0]), *map(str, command[1:])]
        done = subprocess.run(line, cwd=work, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout

    return call


def test_a_stranger_installs_and_trains(run, environment, wheel, sdist, project_root, tmp_path):
    constraints = project_root / "requirements" / "constraints.txt"
    run("pip", "install", "--quiet", "--constraint", constraints, wheel)
    run("pip", "check")
    for name in ("examples", "data"):
        shutil.copytree(project_root / name, tmp_path / "work" / name)
    version = run("mmself", "--version")
    for command in COMMANDS:
        run(*command)
    assert "--strategy" in run("llamafactory-cli", "train", "--stage", "mdpo", "-h")
    marker = "import llamafactory_mmself as m, pathlib; print((pathlib.Path(m.__file__).parent / 'py.typed').exists())"
    assert run("python", "-c", marker).strip() == "True"

    run("pip", "install", "--quiet", "--no-deps", "--force-reinstall", sdist)
    assert run("mmself", "--version") == version
    run("pip", "uninstall", "--quiet", "--yes", "llamafactory-mmself")
    run("llamafactory-cli", "version")
    assert not list(environment.parent.rglob("llamafactory_mmself*"))
