"""Executes the tour's script as a notebook and writes the notebook beside it, the same bytes every time."""

from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
SCRIPT, NOTEBOOK = HERE / "tour.py", HERE / "tour.ipynb"


def executed() -> NotebookNode:
    """The script's cells with the outputs of a fresh kernel, as a notebook in memory.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised, so something the tour teaches does not hold.
    """
    notebook = jupytext.read(SCRIPT)
    # Random ids and times of day would change the file whenever it is written.
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    client = NotebookClient(notebook, timeout=60, record_timing=False, resources={"metadata": {"path": str(HERE)}})
    client.execute()
    return notebook


if __name__ == "__main__":
    jupytext.write(executed(), NOTEBOOK)
    print(f"wrote {NOTEBOOK.name}")
