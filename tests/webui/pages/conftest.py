# SPDX-License-Identifier: Apache-2.0
"""LlamaBoard as a server of its own, and a browser that looks at it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.webui.recipe import RECIPE


WAIT = 120_000  # milliseconds that a page may take to come to rest on a busy machine


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    found = os.environ.get("CHROME_PATH") or shutil.which("chromium")
    if not found or shutil.which(found) is None:
        pytest.fail(
            "These tests need Chromium. On Debian: apt-get install chromium. Elsewhere, CHROME_PATH names the program."
        )
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """A folder to start LlamaBoard in: data sets, a small world, a recipe, a model that can answer."""
    from llamafactory_mmself.toyworld.training import shipped_base
    from llamafactory_mmself.toyworld.world import WorldOptions, write_world

    folder = tmp_path_factory.mktemp("board")
    shutil.copytree(project_root / "data", folder / "data")
    shutil.copytree(shipped_base("qwen2_vl", WorldOptions()), folder / "model")
    write_world(folder / "world", WorldOptions(train=16, test=8, captions=2))
    recipe = folder / "examples" / "r3v" / "toy.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(yaml.safe_dump(RECIPE))
    return folder


@pytest.fixture(scope="module")
def board(place: Path, clean_environment: Callable[..., dict[str, str]]) -> Iterator[str]:
    """Address of a LlamaBoard."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = clean_environment(GRADIO_SERVER_PORT=str(port), GRADIO_SERVER_NAME="127.0.0.1", BROWSER="true")
    log = place / "board.log"
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [str(Path(sys.executable).parent / "llamafactory-cli"), "webui"],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 600
        while server.poll() is None and time.monotonic() < deadline and not _listens(port):
            time.sleep(0.3)
        assert _listens(port), log.read_text()
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        print(log.read_text()[-8000:])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, board: str) -> Iterator[Any]:
    """A page of LlamaBoard; errors of its scripts fail the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(WAIT)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(board)
    opened.get_by_role("tab", name="Self-improve").wait_for()
    yield opened
    context.close()
    assert not errors


@pytest.fixture
def screenshot(project_root: Path) -> Callable[[Any, str, Any], None]:
    """Takes a picture of a page down to an element, if MMSELF_SCREENSHOTS names a folder for it."""
    folder = os.environ.get("MMSELF_SCREENSHOTS")

    def take(page: Any, name: str, last: Any) -> None:
        if not folder:
            return
        from PIL import Image

        path = (project_root / folder / f"{name}.png").resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        page.locator(".toast-body").first.wait_for(state="hidden")
        page.wait_for_timeout(700)  # animations
        page.screenshot(path=path, full_page=True)
        box, scrolled = last.bounding_box(), page.evaluate("window.scrollY")
        with Image.open(path) as taken:
            cut = taken.convert("RGB").crop((80, 0, 1360, int(scrolled + box["y"] + box["height"]) + 24))
        cut.quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)

    return take
