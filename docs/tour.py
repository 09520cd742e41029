# SPDX-License-Identifier: Apache-2.0
"""Executes examples/tour.ipynb anew and stores what its cells show: `python docs/tour.py`, or `make tour`.

It runs from the root of the checkout, in ten minutes on two CPU cores; what a loop has finished in `runs/` stays.
Progress and log lines do not go into the notebook, and paths are stored as they are below the root.
"""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_output


ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
LOG_LINE = re.compile(r"^\[\S+ \S+\] \[(?:INFO|WARNING)\] .*\n", re.MULTILINE)


def execute(notebook: nbformat.NotebookNode) -> None:
    """Runs all cells in order in a new kernel of this environment, whose outputs replace the ones that are there.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the text has what it said.
    """
    kernel = {"resources": {"metadata": {"path": str(ROOT)}}, "kernel_name": "python3"}
    NotebookClient(notebook, timeout=None, record_timing=False, **kernel).execute()


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leaves what a reader wants to see, and nothing of the machine."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            said = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
            kept = [output for output in cell.outputs if output.output_type != "stream"]
            if said := LOG_LINE.sub("", said).replace(f"{ROOT}/", ""):
                kept.insert(0, new_output("stream", name="stdout", text=said))
            cell.outputs = kept


def main() -> None:
    """Executes the notebook and writes it."""
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    execute(notebook)
    tidy(notebook)
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
