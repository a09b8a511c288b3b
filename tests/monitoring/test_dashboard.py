"""The Grafana dashboard says what it shows, from where on it is bad, and where to look next."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads(
    (ROOT / "deploy/grafana/dashboards/token-transfers.json").read_text(encoding="utf-8")
)
ROWS = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
GREY = "#808080"


def named(title: str) -> dict[str, Any]:
    (found,) = [panel for panel in PANELS if panel["title"] == title]
    return dict(found)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_is_described_and_has_a_unit_and_thresholds(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert len(panel["description"]) > 20
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None


def test_there_are_rows_for_each_part_of_the_system() -> None:
    titles = [row["title"] for row in ROWS]
    assert {"Models", "Watch", "Notifications", "Chains", "Service"} <= set(titles)
    # A row has panels below it, before the next one.
    order = [panel["type"] == "row" for panel in DASHBOARD["panels"]]
    assert not any(one and other for one, other in zip(order, [*order[1:], True], strict=True))


def test_no_panels_overlap_and_ids_are_unique() -> None:
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_drift_that_is_unknown_is_grey() -> None:
    defaults = named("Drift")["fieldConfig"]["defaults"]
    values, special = defaults["mappings"]
    assert values["options"]["-1"]["color"] == GREY
    assert special["options"]["match"] == "null+nan"
    assert special["options"]["result"]["color"] == GREY
    assert defaults["thresholds"]["steps"][0] == {"color": GREY, "value": None}
    assert defaults["noValue"] == "unknown"


def test_panels_lead_to_pages_of_the_service() -> None:
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert "service_url" in variables
    links = [*DASHBOARD["links"], *(link for panel in PANELS for link in panel.get("links", []))]
    pages = {link["url"].removeprefix("${service_url}") for link in links}
    assert pages == {"/ui/", "/ui/alerts", "/ui/screenings", "/ui/models", "/docs"}


@pytest.mark.parametrize(
    ("row", "page"),
    [("Screening", "screenings"), ("Notifications", "alerts"), ("Models", "models")],
)
def test_a_row_with_a_page_of_its_own_leads_to_it(row: str, page: str) -> None:
    titles = [panel["title"] if panel["type"] == "row" else "" for panel in DASHBOARD["panels"]]
    first = titles.index(row) + 1
    for panel in DASHBOARD["panels"][first:]:
        if panel["type"] == "row":
            break
        urls = [link["url"] for link in panel.get("links", [])]
        assert urls == [f"${{service_url}}/ui/{page}"], panel["title"]
