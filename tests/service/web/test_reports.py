"""axe, the accessibility checker, finds nothing in any kind of HTML report, either.

Their pictures are kept beside those of the pages, see `test_accessibility.py`.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from playwright.sync_api import Browser

from src.monitoring.drift import page as drift
from src.monitoring.drift.levels import Levels
from src.monitoring.drift.verdict import Verdict, compare
from src.monitoring.forta_alerts import daily_report
from src.monitoring.forta_alerts.statistics import alerts_table, daily_statistics
from src.registry.drift_reference import parse_sample
from src.reports.pictures import draw
from src.service import report
from src.settings import PROJECT_ROOT
from src.training.evaluation.report import TITLES, to_html
from src.training.retraining import outcome
from src.training.retraining.gate import Check
from tests.backtest import runs
from tests.backtest.data import hostile_history, write_etl
from tests.service.web.browsing import quiet_page, theft
from tests.service.web.test_accessibility import faults
from tests.support.forta_graphql import invent_alerts


def a_plot() -> bytes:
    def paint(axes: Axes) -> None:
        axes.plot([0, 1], label="a line")

    return draw(paint)


@pytest.fixture(scope="module")
def reports(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a report of each kind."""
    folder = tmp_path_factory.mktemp("reports")

    figures = json.loads((PROJECT_ROOT / "docs" / "model" / "evaluation.json").read_text())
    plots = dict.fromkeys(TITLES, a_plot())
    (folder / "evaluation.html").write_text(to_html(figures, plots, "Evaluation"))

    text = (PROJECT_ROOT / "drift_reference.json").read_text()
    drifted = replace(compare(parse_sample(text), parse_sample(text)), verdict=Verdict.RETRAIN)
    (folder / "drift.html").write_text(drift.to_page(drifted, Levels()))

    alerts = alerts_table(invent_alerts(500))
    day = daily_report.to_page(alerts, daily_statistics(alerts, 0.004), "Alerts of a day")
    (folder / "statistics.html").write_text(day)

    checks = (Check("AUC", True, "0.97", "0.98", ""), Check("size", False, "1", "2", "too few"))
    settled = outcome.Outcome("c1", "c2", checks, False, ("d1",), 3.0, pictures={"a.png": a_plot()})
    (folder / "retraining.html").write_text(outcome.to_page(settled))

    history = hostile_history(seed=1, blocks=20)
    write_etl(folder / "etl", history)
    exploits = folder / "exploits.csv"
    exploits.write_text("\n".join(["tx_hash", *(one.tx_hash for one in history[:20])]))
    for name, more in (
        ("before", ()),
        ("after", ("--threshold", "0.5", "--compare-with", folder / "before")),
    ):
        assert runs.run(folder / "etl", folder / name, "--exploits", exploits, *more) == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"sqlite:///{folder / 'report.db'}")
        out = ["--out", str(folder / "transaction.html")]
        assert report.main([theft(demo), *out]) == 0
    return folder


@pytest.mark.integration
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_in_any_report(browser: Browser, reports: Path, width: int) -> None:
    pages = {
        f"report-{name}": f"/{path}.html"
        for name, path in (
            ("evaluation", "evaluation"),
            ("drift", "drift"),
            ("statistics", "statistics"),
            ("retraining", "retraining"),
            ("backtest", "before/report"),
            ("comparison", "after/comparison"),
            ("transaction", "transaction"),
        )
    }
    with quiet_page(browser, viewport={"width": width, "height": 900}) as page:
        assert faults(page, reports.as_uri(), width, pages) == {}
