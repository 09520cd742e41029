# SPDX-License-Identifier: Apache-2.0
"""The project's wheel, small virtual environments to install it into, and a stand-in for LLaMA-Factory."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


PACKAGING = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "llamafactory_mmself_autoload.pth",
    "llamafactory_mmself",
)
FAKE_MODULE = 'def original():\n    """Says who it is."""\n    return "original"\n'
TARGETS = ("hparams.parser", "train.tuner", "data.converter", "data.template", "webui.interface")


@dataclass(frozen=True)
class LightVenv:
    """A virtual environment without pip; the pip of the environment that runs the tests installs into it."""

    folder: Path
    environment: dict[str, str]

    @property
    def site_packages(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))

    def files(self) -> set[str]:
        """Every file of the environment, relative to its folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}

    def pip(self, *arguments: str | Path) -> None:
        """Runs pip for this environment, without network; fails with pip's output."""
        line = [sys.executable, "-m", "pip", "--python", self.folder, *arguments]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def install(self, *what: str | Path) -> None:
        """Installs without the requirements; a source folder is built with the tools of this environment."""
        self.pip("install", "--no-deps", "--no-index", "--no-build-isolation", *what)

    def python(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs Python code; fails with its output."""
        done = self.start(code, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs Python code in an empty folder, whatever its exit status will be."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        return subprocess.run(
            [self.folder / "bin" / "python", "-c", code],
            env=self.environment | variables,
            cwd=empty,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="session")
def source(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source") / "project"
    folder.mkdir()
    for name in PACKAGING:
        if (project_root / name).is_dir():
            shutil.copytree(project_root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(project_root / name, folder)
    return folder


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    return _build(source, tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.fixture(scope="session")
def sdist(source: Path, project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's source archive, made with the folders that only it carries."""
    folder = tmp_path_factory.mktemp("sdist")
    complete = folder / "project"
    shutil.copytree(source, complete, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for name in ("data", "examples", "patches", "requirements"):
        shutil.copytree(project_root / name, complete / name)
    return _build(complete, folder, "--sdist")


def _build(source: Path, target: Path, kind: str) -> Path:
    line = [sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", target, source]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(path for path in target.iterdir() if path.suffix in (".whl", ".gz"))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to everything that is installed here, but not to this project.

    Added to the search path it makes the libraries importable; Python runs no ``.pth`` files from there.
    """
    folder = tmp_path_factory.mktemp("library")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "llamafactory_mmself" not in entry.name and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def make_venv(
    library: Path, clean_environment: Callable[..., dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., LightVenv]:
    """Makes an empty `LightVenv`; with ``libraries=True`` it sees what is installed here, this project excepted."""

    def make(libraries: bool = False) -> LightVenv:
        folder = tmp_path_factory.mktemp("venv")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        venv = LightVenv(folder, clean_environment())
        if libraries:
            (venv.site_packages / "library.pth").write_text(f"{library}\n", encoding="utf-8")
        return venv

    return make


@pytest.fixture(scope="session")
def fake_llamafactory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package `llamafactory` whose target modules have one function each.

    It also has `watch`, which puts a recorder in the place of `llamafactory_mmself.plugin.activation`.
    """
    root = tmp_path_factory.mktemp("fake")
    for target in TARGETS:
        path = root.joinpath("llamafactory", *target.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(FAKE_MODULE, encoding="utf-8")
    (root / "llamafactory" / "__init__.py").touch()
    (root / "llamafactory" / "hparams" / "note.txt").write_text("a resource", encoding="utf-8")
    (root / "watch.py").write_text(
        "import sys, types\n"
        "patched = []\n"
        "def patch_module(module):\n"
        "    patched.append(module.__name__)\n"
        "    module.original = lambda: 'patched'\n"
        "stub = types.ModuleType('llamafactory_mmself.plugin.activation')\n"
        "stub.patch_module = patch_module\n"
        "sys.modules[stub.__name__] = stub\n",
        encoding="utf-8",
    )
    return root
