# SPDX-License-Identifier: Apache-2.0
"""The environment of all tests, and the fixtures that several folders share."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest


ROOT = Path(__file__).resolve().parent.parent
SCRATCH = Path(tempfile.mkdtemp(prefix="llamafactory-mmself-tests-"))

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

# Set here, not in a fixture: the libraries read these variables when test modules import them.
ENVIRONMENT = {
    "HF_HOME": str(SCRATCH / "huggingface"),
    "XDG_CACHE_HOME": str(SCRATCH / "cache"),
    "MPLCONFIGDIR": str(SCRATCH / "matplotlib"),
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_DISABLED": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // WORKERS)),
}
KEPT = (
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "CUDA_VISIBLE_DEVICES",
)
UNWANTED = ("LLAMAFACTORY_MMSELF", "FORCE_TORCHRUN", "USE_RAY", "USE_V1", "USE_MODELSCOPE_HUB", "USE_OPENMIND_HUB")

os.environ.update(ENVIRONMENT)
for name in UNWANTED:
    os.environ.pop(name, None)

RunCli = Callable[..., subprocess.CompletedProcess[str]]


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout."""
    return ROOT


def beside(root: Path, name: str, what: str) -> Path:
    """A folder that lies beside a checkout, never inside it; without it the test is skipped, with the reason."""
    folder = root.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"needs {what}, which are not part of this project: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_data(project_root: Path) -> Path:
    """Real rows and photos of public projects."""
    return beside(project_root, "data", "the data sets of public projects")


@pytest.fixture(scope="session")
def shared_golden(project_root: Path) -> Path:
    """Cases computed with the published code."""
    return beside(project_root, "golden", "the published code's cases")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Maps a family such as ``qwen2_vl`` to a tiny random model of it, built once per session."""
    from llamafactory_mmself.toyworld.models import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny-models")
    built: dict[str, Path] = {}

    def build(family: str) -> Path:
        if family not in built:
            built[family] = build_tiny_model(family, folder / family, seed=0)
        return built[family]

    return build


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three pictures of different sizes, each with a circle of another colour."""
    from PIL import Image, ImageDraw

    folder = tmp_path_factory.mktemp("shapes")
    paths = []
    for place, (size, colour) in enumerate([((112, 112), "red"), ((140, 84), "green"), ((84, 140), "blue")]):
        image = Image.new("RGB", size, "white")
        ImageDraw.Draw(image).ellipse((10, 10, 60, 70), fill=colour)
        image.save(folder / f"{place}.png")
        paths.append(str(folder / f"{place}.png"))
    return paths


@pytest.fixture(scope="session")
def clean_environment() -> Callable[..., dict[str, str]]:
    """Makes the environment of a subprocess: nothing of the caller's but the search path, nothing of its settings."""
    home = SCRATCH / "home"
    home.mkdir(exist_ok=True)

    def make(**changes: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return {**kept, **ENVIRONMENT, "HOME": str(home), "PATH": path, **changes}

    return make


@pytest.fixture
def run_cli(clean_environment: Callable[..., dict[str, str]], project_root: Path) -> RunCli:
    """Runs a console command of the environment that runs the tests.

    ``run_cli(command, *arguments, timeout=120, env=None, cwd=None)`` starts ``command`` from the folder of
    ``sys.executable`` in a clean environment plus ``env``, in ``cwd`` or the project's root. It returns the
    `subprocess.CompletedProcess`; the output of a command that fails is printed. A command that is still running after
    ``timeout`` seconds is killed together with everything it started, and fails the test.
    """

    def run(
        command: str,
        *arguments: str | Path,
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        line = [str(Path(sys.executable).parent / command), *map(str, arguments)]
        process = subprocess.Popen(
            line,
            cwd=cwd or project_root,
            env=clean_environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            _print_output(line, stdout, stderr)
            pytest.fail(f"{command} was still running after {timeout} s and was killed")
        if process.returncode != 0:
            _print_output(line, stdout, stderr)
        return subprocess.CompletedProcess(line, process.returncode, stdout, stderr)

    return run


def _print_output(line: list[str], stdout: str, stderr: str) -> None:
    print(f"$ {' '.join(line)}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Starts scripted servers; those that a test has not closed are closed at its end."""
    from tests.generate.fake_server import FakeServer

    servers: list[FakeServer] = []

    def start(answer: Callable[..., Any], port: int = 0) -> FakeServer:
        servers.append(FakeServer(answer, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
