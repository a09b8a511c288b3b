"""The notebooks run from their first cell to their last, in the kernel that people have."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.forta_graphql import BOT, DAY, KEY, FortaServer, invent_alerts, serving
from tests.support.waiting import FOR_EVER

pytestmark = pytest.mark.integration
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
_ALERTS = 2_500  # three pages
_FAILING_REQUEST = 2


def run(name: str, before: str = "") -> None:
    """Run a notebook, and `before` after its first cell of code, which finds the project."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    first = next(at for at, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(before))
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=FOR_EVER, kernel_name="python3", resources=resources).execute()


def test_training_is_told_on_invented_transactions() -> None:
    run("training.ipynb", "from src.datasets import location\n"
        "location.default_folder = lambda: None")  # fmt: skip


def test_a_day_of_alerts_is_told_although_a_page_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FortaServer(invent_alerts(_ALERTS))
    server.failures[_FAILING_REQUEST] = (502, "<html>bad gateway</html>")
    with serving(server.answer) as url:
        for variable, value in {
            "FORTA_API_URL": url,
            "FORTA_API_KEY": KEY,
            "FORTA_BOT_ID": BOT,
            "STATS_DATE": DAY.isoformat(),
        }.items():
            monkeypatch.setenv(variable, value)
        run("daily_model_stats.ipynb")
