# SPDX-License-Identifier: Apache-2.0
"""The tour is a notebook that was executed from top to bottom, and shows nothing of the machine that did it."""

import re
import shlex

import nbformat
import pytest
import yaml

from llamafactory_mmself.cli import make_parser
from tests.documented.shell import ROOT, cell_commands


PATH = ROOT / "examples" / "tour.ipynb"
TEXT_TOOLS = ("grep", "tail")
LIMIT = 400 * 1024  # bytes
KINDS = ("plain", "html")


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(PATH, nbformat.NO_CONVERT)


def test_it_is_a_valid_notebook_of_a_moderate_size(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert PATH.stat().st_size < LIMIT


def test_every_cell_was_executed_in_order_and_without_errors(notebook: nbformat.NotebookNode) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run make tour"
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 4 and any("text/html" in output.get("data", {}) for output in outputs)


def test_nothing_of_the_machine_is_stored(notebook: nbformat.NotebookNode) -> None:
    texts = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            texts += [output.get("text", ""), *(str(output.get("data", {}).get(f"text/{kind}", "")) for kind in KINDS)]
    for text in texts:
        plain = re.sub(r"base64,[\w+/=]+", "", text)
        assert not re.search(r"(?<![\w.:/<~])/(?:[a-z]\w*/)+\w", plain), "an absolute path"
        assert not re.search(r"WARNING|Warning|\d+%\|", plain), "a warning, or progress"


def test_its_commands_are_ones_that_can_be_run() -> None:
    commands = list(cell_commands(PATH))
    assert {"toy", "validate", "loop", "report"} <= {command.words[1] for command in commands}
    for command in commands:
        if command.words[0] == "mmself":
            make_parser().parse_args(command.words[1:])
        elif command.begins("llamafactory-cli train"):
            assert yaml.safe_load((ROOT / command.words[2]).read_text())["stage"] == "mdpo"
        else:
            assert command.words[0] in TEXT_TOOLS, shlex.join(command.words)


def test_its_code_is_python(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%bash"):
            compile(cell.source, str(PATH), "exec")


def test_its_links_lead_somewhere(notebook: nbformat.NotebookNode) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", "\n".join(cell.source for cell in notebook.cells)):
        assert "://" in target or (PATH.parent / target).exists(), target
