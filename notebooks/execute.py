"""Execute the notebooks in place: `.venv/bin/python -m notebooks.execute`.

Their outputs are committed, for readers on GitHub. The notebook's metadata then hold a digest of
its code, so that a test notices outputs of other code.
"""

import hashlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parent
DIGEST = "executed"
"""The member of the metadata that holds `digest` at the execution."""


def digest(notebook: NotebookNode) -> str:
    """SHA-256 of the code of all cells."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def main() -> None:
    """Execute every notebook from its first cell to its last."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        sys.stdout.write(f"{path.name}\n")
        notebook = nbformat.read(path, as_version=4)
        resources = {"metadata": {"path": str(NOTEBOOKS)}}
        NotebookClient(notebook, timeout=None, resources=resources, record_timing=False).execute()
        notebook.metadata[DIGEST] = digest(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
