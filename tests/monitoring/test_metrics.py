"""The metrics: added up over workers, moved by the bot's work, off unless asked for."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from src import agent
from src.decision.pipeline import Pipeline
from src.demo.processes import supervised
from src.monitoring import exposition
from tests.conftest import UNKNOWN_TOKEN, event_of, transfer_log
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys
from src.monitoring import exposition, metrics
for score in (0.4, 0.4, 0.9):
    metrics.transaction_scored(score, 0.01, is_anomaly=score > 0.67)
metrics.error_occurred(ValueError("text that must not become a label"))
for number in range(int(sys.argv[1])):
    metrics.fraud_predicted(is_fraud=number == 0, seconds=0.01)
metrics.cache_asked("tokens", hits=1, misses=1, entries=5)
metrics.source_used(
    "node", {"ok": 2}, seconds=0.5, waited_seconds=0.1, circuit_open=sys.argv[1] == "3"
)
for version in ("1", "2"):
    metrics.model_in_use(version=version, sha256="ab", sklearn_version="1", threshold=0.67,
                         expected_anomaly_rate=0.004)
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.read()
"""
SCRAPER = """
import sys
from src.monitoring import exposition
sys.stdout.write(exposition.render()[0].decode())
"""


def value(text, sample):
    """The value of a sample, given as `name{labels}`."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return None if found is None else float(found.group(1))


def scrape():
    return exposition.render()[0].decode()


def test_several_workers_add_up(tmp_path):
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    start = [sys.executable, "-c"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [
        subprocess.Popen(supervised([*start, WORKER, many]), env=env, cwd=ROOT, **pipes)
        for many in ("3", "5")
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    scraped = subprocess.run(
        [*start, SCRAPER], env=env, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for worker in workers:
        worker.communicate()
    assert value(scraped, 'token_transfers_transactions_total{kind="normal"}') == 4
    assert value(scraped, 'token_transfers_transactions_total{kind="anomalous"}') == 2
    assert value(scraped, "token_transfers_anomaly_score_count") == 6
    assert value(scraped, 'error_count_total{kind="ValueError"}') == 2
    assert value(scraped, "fraud_rate") == 2 / 8
    assert value(scraped, 'token_transfers_cache_entries{cache="tokens"}') == 10
    assert value(scraped, 'token_transfers_circuit_open{source="node"}') == 1
    info = 'token_transfers_model_info{model_version="%s",sha256="ab",sklearn_version="1"}'
    assert value(scraped, info % "2") == 1
    assert value(scraped, info % "1") == 0
    assert "must not become a label" not in scraped


def test_the_bot_has_no_metrics_unless_asked(start_bot):
    start_bot()
    assert agent.BOT.metrics is None
    assert agent.handle_transaction(event_of([transfer_log()]))


def test_the_bots_work_moves_its_metrics(start_bot, monkeypatch):
    start_bot(METRICS_PORT="0", ANOMALY_THRESHOLD="0")
    bot = agent.BOT
    url = f"http://127.0.0.1:{bot.metrics.port}/metrics"
    before = requests.get(url, timeout=PATIENCE).text
    agent.handle_transaction(event_of([]))
    agent.handle_transaction(event_of([transfer_log(UNKNOWN_TOKEN)]))
    agent.handle_transaction(event_of([transfer_log()], transaction={"hash": "0x1"}))
    monkeypatch.setattr(Pipeline, "assess", lambda *_: {}["no"])
    agent.handle_transaction(event_of([transfer_log()]))
    bot.metrics.close()
    after = scrape()

    def moved(sample):
        return (value(after, sample) or 0) - (value(before, sample) or 0)

    kind = 'token_transfers_transactions_total{kind="%s"}'
    assert [moved(kind % name) for name in ("none", "normal", "anomalous", "invalid")] == [
        1, 0, 1, 2,
    ]  # fmt: skip
    assert moved("token_transfers_anomaly_score_count") == 1
    assert moved('prediction_latency_seconds_count{model="isolation_forest"}') == 1
    assert moved('error_count_total{kind="KeyError"}') == 1
    assert moved('token_transfers_invalid_inputs_total{reason="input"}') == 1
    assert moved('token_transfers_invalid_inputs_total{reason="error"}') == 1
    for stage, times in {"decode": 4, "features": 1, "lookup": 1, "score": 1, "total": 2}.items():
        assert moved(f'token_transfers_stage_latency_seconds_count{{stage="{stage}"}}') >= times
    assert moved('token_transfers_source_requests_total{outcome="failed",source="node"}') > 0
    assert moved('token_transfers_cache_requests_total{cache="tokens",result="miss"}') > 0
    assert 'alert_id="ANOMALOUS-TOKEN-TRANSFERS-TX"' in after
    manifest = bot.pipeline.model.manifest
    assert f'model_version="{manifest.model_version}",sha256="{manifest.sha256}"' in after


def test_a_taken_port_does_not_keep_the_bot_from_its_work(start_bot):
    server, _ = exposition.serve(0)
    try:
        start_bot(METRICS_PORT=str(server.server_port))
        assert agent.BOT.metrics is None
        assert agent.health_check() == []
    finally:
        server.shutdown()
        server.server_close()


def metric_names(expression):
    """Names of the metrics in a PromQL expression."""
    promql_parser = pytest.importorskip("promql_parser")
    ready = expression.replace("$__rate_interval", "1m").replace("$job", ".*")
    found = set()

    def walk(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
            child = getattr(node, name, None)
            if child is not None and not isinstance(child, str | int | float):
                walk(child)
        for child in getattr(node, "args", None) or []:
            walk(child)

    walk(promql_parser.parse(ready))
    return found


def named_metrics():
    """Every metric that the dashboard or a rule names, without what rules record themselves."""
    import yaml

    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/token-transfers.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    expressions += [rule["expr"] for rule in rules]
    names = set().union(*map(metric_names, expressions))
    recorded = {rule["record"] for rule in rules if "record" in rule}
    assert names & recorded
    return names - recorded - {"up"}


def test_dashboard_and_rules_name_only_metrics_that_exist():
    exposition.render()
    text = scrape()
    declared = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    for name in named_metrics():
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert {name, base} & declared, name


def test_the_dashboard_shows_every_metric_of_ours():
    text = scrape()
    ours = {
        name
        for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        if re.match(r"token_transfers_|error_count|prediction_latency|fraud_rate", name)
        and not name.endswith("_created")
    }
    shown = {re.sub(r"_bucket$", "", name) for name in named_metrics()}
    assert ours <= shown, ours - shown


@pytest.mark.parametrize(
    ("name", "series"),
    [("notifications", 3), ("guard_mined", 4), ("screened_then_mined", 9)],
)
def test_a_rare_event_is_counted_from_zero_on(name, series):
    """Otherwise `increase`, and so the rules and the dashboard, would miss the first one."""
    code = "import src.monitoring.screening_metrics\n" + SCRAPER
    text = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    samples = re.findall(rf"^token_transfers_{name}_total\{{.*\}} (\S+)$", text, re.MULTILINE)
    assert [float(value) for value in samples] == [0.0] * series
