"""A Python client, generated from `/openapi.json`, runs through the whole API of a real service."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from tests.service.card_model import INPUTS, write_card_model
from tests.service.chain import HEAD, THEFT
from tests.service.serving import serving
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration
KEY = "a-key-of-enough-characters"
NAME = "generated_client"
CARD = dict.fromkeys(INPUTS, 0.0)


class Client:
    """The generated client; remembers which operations were called."""

    def __init__(self, url: str, package: ModuleType) -> None:
        self._client = package.AuthenticatedClient(
            base_url=url, token=KEY, raise_on_unexpected_status=True, timeout=PATIENCE
        )
        self.models: Any = importlib.import_module(f"{NAME}.models")
        api = importlib.import_module(f"{NAME}.api")
        tags = [f"{NAME}.api.{tag.name}" for tag in pkgutil.iter_modules(api.__path__)]
        self.operations = {
            operation.name: f"{tag}.{operation.name}"
            for tag in tags
            for operation in pkgutil.iter_modules(importlib.import_module(tag).__path__)
        }
        self.called: set[str] = set()

    def ask(self, operation: str, *path: Any, status: int = 200, **given: Any) -> Any:
        """Call an operation; returns what the client made of the response."""
        module = importlib.import_module(self.operations[operation])
        response = module.sync_detailed(*path, client=self._client, **given)
        assert response.status_code == status, response.content
        assert response.parsed is not None or status == HTTPStatus.NOT_MODIFIED
        self.called.add(operation)
        return response if status == HTTPStatus.NOT_MODIFIED else response.parsed

    def close(self) -> None:
        """Close its connections."""
        self._client.get_httpx_client().close()

    def body(self, model: str, content: dict[str, Any]) -> Any:
        """A request's body."""
        return getattr(self.models, model).from_dict(content)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("client")
    model = write_card_model(folder)
    keys = {"SERVICE_API_KEYS": f"analyst:{KEY}", "FRAUD_MODEL_PATH": str(model)}
    with serving(folder, workers=1, **keys) as (url, process):
        generate(url, folder)
        sys.path.insert(0, str(folder))
        made = Client(url, importlib.import_module(NAME))
        path = f"{url}/transactions/{THEFT}/decision"
        own = {"X-API-Key": KEY}
        # The demo decides by itself; its last block is the theft's.
        wait_until(lambda: requests.get(path, headers=own, timeout=PATIENCE).ok, process)
        yield made
        made.close()
        sys.path.remove(str(folder))


def generate(url: str, folder: Path) -> None:
    """Generate the client with the generator's own command; a warning is a failure."""
    description = folder / "openapi.json"
    answer = requests.get(f"{url}/openapi.json", headers={"X-API-Key": KEY}, timeout=PATIENCE)
    description.write_text(answer.text)
    (folder / "config.yaml").write_text("post_hooks: []\n")
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", description,
         "--config", folder / "config.yaml", "--meta", "none", "--output-path", folder / NAME,
         "--fail-on-warning"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    assert "arning" not in made.stdout


def test_decisions(client: Client) -> None:
    decided = client.ask("decide_transaction", THEFT, details=True)
    assert decided.action == "BLOCK"
    assert decided.anomaly_score > decided.anomaly_threshold
    assert len(decided.explanation) == 10
    assert decided.decided_at_rfc3339.timestamp() == pytest.approx(decided.decided_at, abs=1e-3)
    assert client.ask("get_decision", THEFT, details=True) == decided
    event = client.body("TransactionEvent", {"logs": []})
    assert client.ask("decide_event", body=event).action == "ALLOW"
    unknown = client.ask("get_decision", "0x" + "9" * 64, status=404)
    assert isinstance(unknown, client.models.ProblemDocument)
    assert unknown.detail.startswith("There is no decision")


def test_alerts(client: Client) -> None:
    (alert,) = client.ask(
        "list_alerts", limit=1, chain_id=1, severity=client.models.Severity.CRITICAL
    )
    assert alert.transaction_hash == THEFT
    assert alert.block_timestamp_rfc3339.timestamp() == alert.block_timestamp
    given = client.body("FeedbackRequest", {"is_true_positive": True, "note": "seen"})
    (feedback,) = client.ask("give_feedback", alert.id, body=given).feedback
    assert (feedback.author, feedback.note) == ("analyst", "seen")
    triage = client.body("TriageRequest", {"alerts": [alert.id], "state": "done"})
    assert client.ask("triage_alerts", body=triage).transactions == 1
    newest, *_ = client.ask("get_triage_history", alert.id)
    assert (str(newest.state), newest.author) == ("done", "analyst")
    assert client.ask("get_alert", alert.id, details=True).anomaly_score > 0.67
    refused = client.ask("list_alerts", token="USDC", status=422)
    assert refused.detail.startswith("token must be an address")


def test_the_batch_analysis(client: Client) -> None:
    last = client.body("AnalysisRequest", {"start_block": HEAD - 45, "end_block": HEAD})
    found = client.ask("detect_anomalies", body=last)
    assert THEFT in [one.transaction_hash for one in found]
    older = client.ask("detect_anomalies", body=last, per_transfer=True)
    assert {type(one).__name__ for one in older} == {"TransferEntry"}
    job = client.ask("detect_anomalies", body=last, prefer="respond-async", status=202)
    wait_until(lambda: client.ask("get_job", job.id).status == "done")
    assert client.ask("get_job_result", job.id) == found
    assert job.id in [one.id for one in client.ask("list_jobs")]
    assert client.ask("cancel_job", job.id, status=409).detail == "The job has already ended."
    wrong = client.body("AnalysisRequest", {"start_block": 5, "end_block": 1})
    assert "after" in client.ask("detect_anomalies", body=wrong, status=400).detail


def test_screening(client: Client) -> None:
    """The demo's node replays a recording: it simulates nothing, which the answer says."""
    call = {"from": "0x" + "a1" * 20, "to": "0x" + "b2" * 20, "input": "0x"}
    body = client.body("ScreeningRequest", {"transactions": [call]})
    answer = client.ask("screen_transactions", body=body)
    assert (answer.action, answer.status) == ("REVIEW", "unknown")
    assert answer.problem
    assert client.ask("list_all_screenings") == []


def test_predictions_and_models(client: Client) -> None:
    inputs = client.body("PredictFraudInputs", CARD | {"V1": 9.0})
    assert client.ask("predict_fraud", body=inputs).prediction == 1
    one = client.body("PredictBodyType0", CARD)
    many = [client.body("PredictBodyType1Item", CARD)] * 2
    likely = client.ask("predict", body=one).fraud_probability
    assert [each.fraud_probability for each in client.ask("predict", body=many)] == [likely] * 2
    incomplete = client.ask("predict", body=client.body("PredictBodyType0", {"V1": 1}), status=422)
    assert "Amount" in incomplete.missing
    models = client.ask("list_models")
    assert models.supervised.classifier == "LogisticRegression"
    assert client.ask("get_fraud_model").card == "# The report"


def test_operations(client: Client) -> None:
    assert client.ask("get_health").status == "ok"
    assert client.ask("get_readiness").ready
    assert "prediction_latency_seconds" in client.ask("get_metrics")
    again = client.ask("get_health", if_none_match="*", status=304)
    assert again.content == b""


def test_no_operation_was_left_out(client: Client) -> None:
    assert set(client.operations) == client.called
