"""Statistics of published alerts, against a local server with the Forta API's schema."""

import json

import pytest

from src.chain.errors import MalformedAnswer, RequestRefused, SourceUnavailable
from src.detection.forest.manifest import read_manifest
from src.monitoring.forta_alerts import __main__ as stats
from src.monitoring.forta_alerts.api import ATTEMPTS, FortaApi
from src.monitoring.forta_alerts.daily_report import to_json, to_page
from src.monitoring.forta_alerts.pictures import day_pictures
from src.monitoring.forta_alerts.run import expected_rate, fetch_day
from src.monitoring.forta_alerts.statistics import (
    alerts_table,
    by_hour,
    daily_statistics,
    threshold_in_force,
)
from src.utils.constants import ANOMALOUS_ALERT_ID as ANOMALOUS
from src.utils.constants import INVALID_ALERT_ID as INVALID
from src.utils.constants import NORMAL_ALERT_ID as NORMAL
from tests.support.forta_graphql import BOT, DAY, KEY, FortaServer, invent_alerts, serving

EXPECTED = 0.0037
PNG = "data:image/png;base64,iVBOR"


@pytest.fixture(scope="module")
def alerts():
    return invent_alerts(2_500)


def day_of(server, *, key=KEY, page_size=1000, sleep=lambda _: None):
    with serving(server.answer) as url:
        api = FortaApi(key, url=url, page_size=page_size, sleep=sleep)
        found = list(api.alerts_of_day(BOT, DAY))
        api.close()
    return found


def test_ten_thousand_alerts_come_page_by_page_each_once():
    alerts = invent_alerts(10_000)
    server = FortaServer(alerts)
    server.failures[4] = (502, "<html>bad gateway</html>")
    found = day_of(server)
    assert [alert["hash"] for alert in found] == [alert["hash"] for alert in alerts]
    assert server.requests == 11


def test_pages_that_overlap_give_each_alert_once():
    """New alerts move the pages of an API that counts from the newest; rules' alerts count, too."""
    alerts = [{**alert, "alertId": "ADDRESS-POISONING"} for alert in invent_alerts(25)]
    server = FortaServer(alerts)
    page = server._page

    def overlapping(info, **arguments):
        wanted = arguments["input"]
        after = wanted.get("after")
        if after is not None:
            at = next(row for row, one in enumerate(alerts) if one["hash"] == after["alertId"])
            wanted = {**wanted, "after": {**after, "alertId": alerts[at - 2]["hash"]}}
        return page(info, wanted)

    server._page = overlapping
    assert [one["hash"] for one in day_of(server, page_size=10)] == [one["hash"] for one in alerts]


def test_a_bot_is_found_by_its_id_in_capitals():
    with serving(FortaServer(invent_alerts(3)).answer) as url:
        assert len(fetch_day(BOT.upper().replace("0X", "0x"), DAY, key=KEY, url=url)) == 3


@pytest.mark.parametrize("time", ["0", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"])
def test_a_time_of_another_age_does_not_fill_the_memory(time):
    """With the hours in between."""
    alerts = invent_alerts(3)
    alerts[0]["source"]["block"]["timestamp"] = time
    table = alerts_table(alerts)
    assert len(by_hour(table)) <= 3
    assert to_page(table, daily_statistics(table, EXPECTED), "A day")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_a_day_of_alerts_at_the_edge_of_time_has_a_page(time):
    alerts = invent_alerts(1)
    alerts[0]["source"]["block"]["timestamp"] = time
    table = alerts_table(alerts)
    assert to_page(table, daily_statistics(table, EXPECTED), "A day")


def test_a_day_without_a_score_leaves_the_figures_json():
    alerts = invent_alerts(2)
    for alert in alerts:
        alert["metadata"] = {"anomaly_score": "NaN"}
    figures = json.loads(to_json(daily_statistics(alerts_table(alerts), EXPECTED)))
    assert figures["most_anomalous"] == []


@pytest.mark.parametrize("score", [10**400, "1e999", [], None, "٣"])
def test_an_impossible_score_is_none(score):
    alerts = invent_alerts(3)
    alerts[1]["metadata"]["anomaly_score"] = score
    assert alerts_table(alerts)["score"].isna().tolist() == [False, True, False]


def test_a_cursor_at_no_block_is_a_malformed_answer():
    page = '{"data": {"alerts": {"alerts": [], "pageInfo": {"hasNextPage": true, "endCursor": '
    page += '{"blockNumber": 1e999, "alertId": "x"}}}}}'
    server = FortaServer([])
    server.failures = dict.fromkeys(range(1, ATTEMPTS + 1), (200, page))
    with pytest.raises(MalformedAnswer):
        day_of(server)


def test_half_a_character_in_an_alert_does_not_end_the_day():
    alerts = invent_alerts(3)
    alerts[1]["metadata"]["model_version"] = "\udc68"
    assert len(alerts_table(alerts)) == 3


def test_an_alert_without_a_block_leaves_the_figures_json():
    alerts = invent_alerts(20)
    del alerts[3]["source"]["block"]["number"]
    figures = to_json(daily_statistics(alerts_table(alerts), EXPECTED))
    blocks = [entry["block"] for entry in json.loads(figures)["most_anomalous"]]
    assert all(block is None or isinstance(block, int) for block in blocks)
    assert any(isinstance(block, int) for block in blocks)


@pytest.mark.parametrize(
    "failure",
    [
        (500, ""),
        (429, ""),
        (200, '{"errors": [{"message": "timeout"}], "data": null}'),
        (200, "<html>Just a moment...</html>"),
        (200, "null"),
        (200, '{"data": {"alerts": null}}'),
        (200, '{"data": {"alerts": {"alerts": 1, "pageInfo": {"hasNextPage": false}}}}'),
    ],
    ids=["500", "429", "errors in 200", "html", "null", "no connection", "no list"],
)
def test_a_failing_page_is_asked_for_again(alerts, failure):
    server = FortaServer(alerts)
    server.failures = {2: failure, 3: failure}
    pauses = []
    assert len(day_of(server, sleep=pauses.append)) == len(alerts)
    assert len(pauses) == 2
    assert 0 < pauses[0] <= 1
    assert 1 <= pauses[1] <= 2


def test_an_api_that_stays_down_is_given_up(alerts):
    server = FortaServer(alerts)
    server.failures = dict.fromkeys(range(1, 100), (503, ""))
    with pytest.raises(SourceUnavailable, match="503"):
        day_of(server)
    assert server.requests == ATTEMPTS


def test_a_wrong_key_is_said_at_once_and_not_shown(alerts):
    server = FortaServer(alerts)
    with pytest.raises(RequestRefused, match="UNAUTHENTICATED") as refusal:
        day_of(server, key="a-wrong-key")
    assert "a-wrong-key" not in str(refusal.value)
    assert server.requests == 1


def test_a_cursor_that_leads_nowhere_ends_the_paging():
    cursor = {"blockNumber": 1, "alertId": "0x1"}
    page = {"alerts": [], "pageInfo": {"hasNextPage": True, "endCursor": cursor}}
    text = json.dumps({"data": {"alerts": page}})
    with serving(lambda *_: (200, text)) as url, pytest.raises(MalformedAnswer, match="earlier"):
        list(FortaApi(None, url=url).alerts_of_day(BOT, DAY))


def test_the_statistics_are_those_of_the_alerts(alerts):
    statistics = daily_statistics(alerts_table(alerts), EXPECTED)
    kinds = [alert["alertId"] for alert in alerts]
    assert statistics.transactions == len(alerts)
    assert statistics.counts == {kind: kinds.count(kind) for kind in (NORMAL, ANOMALOUS, INVALID)}
    rate, low, high = statistics.anomaly_rate
    assert rate == pytest.approx(kinds.count(ANOMALOUS) / len(alerts))
    assert low < rate < high
    assert statistics.deviation == pytest.approx((rate / EXPECTED - 1) * 100)
    scores = [float(a["metadata"]["anomaly_score"]) for a in alerts if a["alertId"] != INVALID]
    assert statistics.by_threshold["0.50"] == pytest.approx(
        sum(score >= 0.5 for score in scores) / len(scores)
    )
    highest = [entry["score"] for entry in statistics.most_anomalous]
    assert highest == sorted(scores, reverse=True)[:5]
    assert statistics.model_versions == {"1795219200": len(alerts)}
    assert statistics.threshold is None  # no alert states one


def test_the_threshold_in_force_is_among_the_others(alerts):
    stated = [
        {**one, "metadata": {**one["metadata"], "anomaly_threshold": "0.675"}} for one in alerts
    ]
    table = alerts_table(stated)
    statistics = daily_statistics(table, EXPECTED)
    assert statistics.threshold == 0.675
    shares = list(statistics.by_threshold)
    assert shares[shares.index("0.675") - 1] == "0.65"
    assert statistics.by_threshold["0.65"] >= statistics.by_threshold["0.675"]
    assert all(day_pictures(table, statistics).values())


def test_a_transaction_counts_once_and_other_findings_apart(alerts):
    other = {**alerts[0], "alertId": "ADDRESS-POISONING"}
    table = alerts_table([*alerts, alerts[0], other])
    statistics = daily_statistics(table, EXPECTED)
    assert statistics.transactions == len(alerts)
    assert statistics.repeated == 1
    assert statistics.other == {"ADDRESS-POISONING": 1}


def test_hours_are_those_of_the_day(alerts):
    hours = by_hour(alerts_table(alerts))
    assert len(hours) == 24
    assert int(hours.to_numpy().sum()) == len(alerts)
    assert list(hours.columns) == ["CRITICAL", "LOW", "INFO"]


def test_the_largest_known_gains_are_named_with_their_sentence(alerts):
    def reported(at, gained_usd, **more):
        metadata = {**alerts[at]["metadata"], "gained_usd": gained_usd, "summary": f"{at} gained."}
        return {**alerts[at], "metadata": metadata | more}

    reasons = json.dumps([{"detector": "arbitrage", "action": "ALLOW", "reason": "arbitrage: ..."}])
    given = [
        reported(0, "22.5", reasons=reasons),
        reported(1, "3279.46", reasons='[{"detector": "isolation_forest"}]'),
        reported(2, "unknown"),
        reported(3, "-4"),
        reported(4, "1e999"),
        {**reported(1, "3279.46"), "alertId": "DRAINED-ACCOUNT"},  # the same transaction's
        *alerts[5:9],
    ]
    table = alerts_table(given)
    statistics = daily_statistics(table, EXPECTED)
    assert (statistics.reported, statistics.arbitrage, statistics.gains_known) == (5, 1, 3)
    assert statistics.median_gain_usd == 22.5
    assert json.loads(to_json(statistics))["largest_gains"] == [
        {"tx_hash": alerts[at]["hash"], "gained_usd": usd, "is_arbitrage": named}
        | {"summary": f"{at} gained."}
        for at, usd, named in ((1, 3279.46, False), (0, 22.5, True))
    ]
    page = to_page(table, statistics, "A day")
    assert "Largest gains" in page
    assert "$3,279" in page
    assert "1 gained." in page


@pytest.mark.parametrize(
    "metadata",
    [None, [], "x", {"anomaly_score": "NaN"}, {"anomaly_score": []}, {"anomaly_score": "1e999"}],
)
@pytest.mark.parametrize("source", [None, {"block": 7}, {"block": {"timestamp": "soon"}}])
def test_strange_alerts_are_survived(alerts, metadata, source):
    strange = {"hash": "0xff", "alertId": ANOMALOUS, "metadata": metadata, "source": source}
    statistics = daily_statistics(alerts_table([strange, *alerts[:50]]), EXPECTED)
    assert statistics.transactions == 51
    assert all(0 <= entry["score"] <= 1 for entry in statistics.most_anomalous)


def test_the_command_writes_a_report_with_every_picture(alerts, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FORTA_API_KEY", KEY)
    page, figures = tmp_path / "day.html", tmp_path / "day.json"
    with serving(FortaServer(alerts).answer) as url:
        arguments = ["--bot", BOT, "--date", DAY.isoformat(), "--url", url]
        assert stats.main([*arguments, "--html", str(page), "--json", str(figures)]) == 0
        assert "anomaly rate" in capsys.readouterr().out
        assert page.read_text().count(PNG) == 5
        assert json.loads(figures.read_text())["transactions"] == len(alerts)
        assert stats.main([*arguments[:2], "--date", "2020-01-01", "--url", url]) == 1
        assert "no alerts" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        stats.main(["--bot", "0x1"])


def test_training_is_compared_at_the_threshold_in_force(bundle_path):
    """Where ANOMALY_THRESHOLD overrides the model's, its rate at its own says nothing."""
    own = expected_rate(bundle_path)
    assert expected_rate(bundle_path, 0.0) == 1.0 > own
    assert expected_rate(bundle_path, read_manifest(bundle_path).anomaly_threshold) == own
    alerts = invent_alerts(50)
    for alert in alerts:
        alert["metadata"]["anomaly_threshold"] = "0.25"
    assert threshold_in_force(alerts_table(alerts)) == 0.25
    assert threshold_in_force(alerts_table([])) is None
