"""A real Prometheus: it accepts our files, and every metric that they name moves under traffic."""

import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from src import agent
from src.demo.processes import free_port, running
from src.monitoring import exposition, metrics, screening_metrics
from tests.conftest import UNKNOWN_TOKEN, event_of, transfer_log
from tests.monitoring.test_metrics import named_metrics
from tests.service.serving import serving
from tests.support.fake_chain import FakeNode, serve, usual_token
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
pytestmark = pytest.mark.integration


def program(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"NOT TESTED: {name} is missing (apt-get install prometheus "
                    "prometheus-alertmanager)")  # fmt: skip
    return path


def run(*command):
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=DEPLOY / "prometheus"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("promtool", "check", "config", "--syntax-only", "prometheus.yml"),
        ("promtool", "check", "rules", "rules.yml"),
        ("promtool", "test", "rules", "rules_test.yml"),
        ("amtool", "check-config", "../alertmanager/alertmanager.yml"),
    ],
)
def test_the_files_are_accepted(arguments):
    name, *rest = arguments
    outcome = run(program(name), *rest)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def compose(*names):
    files = [yaml.safe_load((DEPLOY / name).read_text()) for name in names]
    return {name: service for file in files for name, service in file["services"].items()}


def test_prometheus_scrapes_what_compose_starts_by_a_host_that_it_accepts():
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    jobs = [static for job in config["scrape_configs"] for static in job["static_configs"]]
    hosts = {target.partition(":")[0] for job in jobs for target in job["targets"]}
    services = compose("compose.yaml", "compose.monitoring.yaml")
    assert hosts <= services.keys()
    # Compose replaces variables as a shell does.
    text = services["service"]["environment"]["SERVICE_ALLOWED_HOSTS"]
    for given, expected in {"": "", "a.example": "a.example,service"}.items():
        shell = ["bash", "-c", f'printf %s "{text}"']
        replaced = subprocess.check_output(shell, env={"SERVICE_ALLOWED_HOSTS": given}, text=True)
        assert replaced == expected


def test_every_alert_that_operators_rely_on_is_tested():
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
    tests = yaml.safe_load((DEPLOY / "prometheus/rules_test.yml").read_text())
    there = {rule.get("alert") for group in rules["groups"] for rule in group["rules"]}
    fired = {
        case["alertname"]
        for test in tests["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired <= there
    assert fired >= {
        "AnomalyRateHigh", "InvalidRateHigh", "DriftRetrain", "SourceOutage", "WatchLag",
    }  # fmt: skip


def test_the_exposition_is_clean():
    outcome = subprocess.run(
        [program("promtool"), "check", "metrics"],
        check=False, input=exposition.render()[0], capture_output=True,
    )  # fmt: skip
    # Exit code 3 is advice on names; two are fixed by their contract (error_count, fraud_rate).
    assert outcome.returncode in {0, 3}, outcome.stderr
    advice = [line for line in outcome.stdout.decode().splitlines() if "token_transfers" in line]
    assert advice == []


@contextmanager
def prometheus(folder, targets):
    """Prometheus scraping `targets` (job -> host:port) each second, with our rules."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "prometheus/rules.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]}
            for job, target in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        program("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (
        (folder / "prometheus.log").open("wb") as log,
        running(command, folder=folder, patience=0, stdout=log, stderr=log) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_up(f"{url}/-/ready"), process)
        yield url


def is_up(url):
    try:
        return requests.get(url, timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


def values(url, name):
    answer = requests.get(f"{url}/api/v1/query", params={"query": name}, timeout=PATIENCE).json()
    assert answer["status"] == "success", answer
    return {
        tuple(sorted(sample["metric"].items())): sample["value"][1]
        for sample in answer["data"]["result"]
    }


def other_token(step, number):
    return f"0x{step * 100 + number:040x}"


def send_traffic(step):
    """What moves the bot's metrics, and those of watching, drift and fraud through their doors."""
    for number in range(1, 4):
        agent.handle_transaction(event_of([]))
        agent.handle_transaction(event_of([transfer_log(UNKNOWN_TOKEN, amount=number)]))
        agent.handle_transaction(event_of([transfer_log(other_token(step, number))]))
        agent.handle_transaction(event_of([transfer_log()], transaction={"hash": "0x1"}))
    metrics.error_occurred("Example")
    # The forest of these tests has no attack model beside it.
    metrics.transaction_scored(0.5, 0.01, is_anomaly=False, attack_score=step / 10)
    metrics.fraud_predicted(is_fraud=step % 2 == 0, seconds=0.001)
    metrics.watch_started()
    metrics.block_watched(12.0 * step)
    metrics.watch_stuck(step)
    metrics.drift_is_due_every(60.0 * step)
    metrics.drift_checked(step % 3, {"anomaly_score": step / 10}, {"anomaly_score": step / 10})
    metrics.source_used(
        "example", {"ok": step}, seconds=0.1, waited_seconds=0.1, circuit_open=step % 2 == 0
    )
    screening_metrics.guard_screened("passed", "ALLOW", 0.1)
    screening_metrics.guard_refused("method")
    screening_metrics.guard_forwarded(0.1)
    screening_metrics.guard_mined("same")
    for outcome in ("delivered", "failed", "given_up"):
        metrics.notified(outcome)
    metrics.fraud_drift_checked(step % 3, {"V1": step / 10})
    metrics.policy_in_use(f"policy {step}")
    metrics.attack_model_in_use((str(step), "ab"))
    metrics.fraud_model_in_use(version=str(step), sha256="ab", classifier="SVM")
    metrics.chain_in_use(step, f"chain {step}")
    screening_metrics.guard_screened("passed", "ALLOW", 0.01)
    screening_metrics.guard_refused("method")
    screening_metrics.guard_forwarded(0.01)
    screening_metrics.guard_mined("same")
    screening_metrics.pending_seen("screened")
    screening_metrics.included("REVIEW", "ALLOW", 2.0 * step)
    metrics.request_served("GET", "/", 200, 0.01)
    metrics.model_in_use(
        version=str(step), sha256="ab", sklearn_version="1", threshold=0.6 + step / 100,
        expected_anomaly_rate=0.004 + step / 1000,
    )  # fmt: skip
    agent.BOT.metrics._usage.report()


def test_every_metric_that_dashboard_and_rules_name_moves_under_traffic(start_bot, tmp_path):
    program("prometheus")
    others = [other_token(step, number) for step in (1, 2) for number in (1, 2, 3)]
    node = FakeNode(tokens={token: usual_token() for token in (UNKNOWN_TOKEN, *others)})
    with ExitStack() as stack:
        url = stack.enter_context(serve(node.answer))
        start_bot(METRICS_PORT="0", JSON_RPC_URL=url, ANOMALY_THRESHOLD="0.4")
        target = f"127.0.0.1:{agent.BOT.metrics.port}"
        scraper = stack.enter_context(prometheus(tmp_path, {"bot": target}))
        send_traffic(1)
        names = sorted(named_metrics())
        wait_until(lambda: all(values(scraper, name) for name in names if name != "fraud_rate"))
        before = {name: values(scraper, name) for name in names}
        send_traffic(2)

        def still():
            return [name for name in names if values(scraper, name) == before[name]]

        try:
            wait_until(lambda: not still())
        except AssertionError as error:
            error.add_note(f"these never moved: {still()}")
            raise
        wait_until(lambda: values(scraper, "token_transfers:scored:rate1h"))
        agent.BOT.metrics.close()


def test_the_service_is_scraped_whichever_worker_answers(tmp_path):
    program("prometheus")
    with (
        serving(tmp_path) as (url, _),
        prometheus(tmp_path, {"service": urlsplit(url).netloc}) as scraper,
    ):
        requests.get(f"{url}/docs", timeout=PATIENCE)
        name = "token_transfers_http_requests_total"
        wait_until(lambda: values(scraper, name))
        before = sum(float(value) for value in values(scraper, name).values())
        for _ in range(20):
            requests.get(f"{url}/docs", timeout=PATIENCE)
        wait_until(
            lambda: sum(float(value) for value in values(scraper, name).values()) >= before + 20
        )
        # A scrape that took too long leaves no values until the next one.
        wait_until(lambda: values(scraper, "token_transfers_model_info"))
