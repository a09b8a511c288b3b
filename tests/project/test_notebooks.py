"""The notebooks run from their first cell to their last, in the kernel that people have.

The libraries for it take seconds to import, so only tests that need them do.
"""

import re
from pathlib import Path

import pytest

from notebooks.execute import DIGEST, digest
from tests.support.forta_graphql import BOT, DAY, KEY, FortaServer, invent_alerts, serving
from tests.support.waiting import FOR_EVER

pytestmark = pytest.mark.integration
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
_ALERTS = 2_500  # three pages
_FAILING_REQUEST = 2


def run(name: str, before: str = "") -> None:
    """Run a notebook, and `before` after its first cell of code, which finds the project."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    first = next(at for at, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(before))
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=FOR_EVER, kernel_name="python3", resources=resources).execute()


def test_training_runs_on_synthetic_transactions() -> None:
    run("training.ipynb", "from functools import partial\n"
        "from notebooks import sample\n"
        "from src.datasets import location\n"
        "location.default_folder = lambda: None\n"
        "sample.write_sample = partial(sample.write_sample, blocks=10)")  # fmt: skip


def test_the_sample_day_needs_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORTA_BOT_ID", raising=False)
    run("daily_model_stats.ipynb")


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORTA_BOT_ID", BOT)
    monkeypatch.delenv("FORTA_API_KEY", raising=False)
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="FORTA_API_KEY is not set"):
        run("daily_model_stats.ipynb")


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_reader_on_github_sees_the_pictures(path: Path) -> None:
    """The outputs are committed: one picture at least, no error, and no path of a machine."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    assert sum("image/png" in one.get("data", {}) for one in outputs) >= 5
    assert not [one for one in outputs if one.output_type in ("error", "stream")]
    assert not re.search(r"/(home|tmp|work|Users)/", path.read_text())


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_outputs_are_of_this_code(path: Path) -> None:
    """If not: `.venv/bin/python -m notebooks.execute`."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata[DIGEST] == digest(notebook)


def test_a_day_of_alerts_is_read_although_a_page_fails(monkeypatch: pytest.MonkeyPatch) -> None:
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
