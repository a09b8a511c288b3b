"""Planted keys in the service, watch mode and the commands: everything that leaves them."""

import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient
from werkzeug import Request, Response

from src.chain.clients.etherscan import EtherscanClient
from src.chain.clients.ethplorer import EthplorerClient
from src.chain.clients.http import HttpClient
from src.chain.clients.owner_store import fetch_owner_secrets
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import NotFound, SourceError
from src.detection.signature import public_key
from src.monitoring.forta_alerts.api import FortaApi
from src.registry.store import Store, StoreError
from src.service.app import create_app
from src.service.database.engine import Database, DatabaseError
from src.service.settings import load_service_settings
from src.settings import Settings, load_settings
from tests.conftest import ALICE
from tests.service.chain import BASE_URL, THEFT, sqlite_url
from tests.support.fake_chain import serve
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "node": "planted-node-key",
    "node query": "planted-node-query",
    "etherscan": "planted-etherscan-key",
    "ethplorer": "planted-ethplorer-key",
    "service key": "planted-service-api-key-0",
    "webhook path": "planted-webhook-path",
    "webhook secret": "planted-webhook-secret",
    "channel": "planted-channel-token",
    "forta": "planted-forta-api-key",
    "database": "planted-database-word",
    "store": "planted-store-secret",
    "signing": "5e" * 32,
}


def planted(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text]


def echoing(request: Request) -> Response:
    """Repeats to its client all that the client sent, in every place that an error can stand."""
    words = f"refused {request.url} {dict(request.headers)} " * 3
    if request.method == "POST" and b"jsonrpc" in request.get_data():
        answer: Any = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": words}}
    else:
        answer = {
            "status": "0", "message": "NOTOK", "result": words, "errors": [{"message": words}],
            "error": {"code": 1, "message": words},
        }  # fmt: skip
    return Response(json.dumps(answer), 200 if request.method == "POST" else 403)


def environment(url: str, folder: Path) -> dict[str, str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JSON_RPC", "SERVICE_", "FORTA_", "MODEL_"))
    }
    return own | {
        "JSON_RPC_URL": f"{url}/{SECRETS['node']}?token={SECRETS['node query']}",
        "ETHERSCAN_URL": f"{url}/api",
        "ETHERSCAN_API_KEY": SECRETS["etherscan"],
        "ETHPLORER_URL": url,
        "ETHPLORER_API_KEY": SECRETS["ethplorer"],
        "SERVICE_API_KEYS": f"ann:{SECRETS['service key']}",
        "WEBHOOK_URLS": f"{url}/{SECRETS['webhook path']}",
        "WEBHOOK_SECRET": SECRETS["webhook secret"],
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "NOTIFY_URLS": f"json://127.0.0.1:1/{SECRETS['channel']}",
        "FORTA_API_KEY": SECRETS["forta"],
        "DATABASE_URL": sqlite_url(folder),
        "CACHE_DIR": str(folder / "cache"),
        "FORTA_CHAIN_ID": "1",
        "NODE_PATIENCE_SECONDS": "0",
        "LOOKUP_DEADLINE_SECONDS": "1",
    }


def files_below(folder: Path) -> str:
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file()).decode("latin-1")


@pytest.fixture
def echo() -> Iterator[str]:
    with serve(echoing) as url:
        yield url


def test_no_planted_key_leaves_the_service(
    echo: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every route, with sources that repeat the keys: bodies, headers, log, database."""
    environ = environment(echo, tmp_path)
    settings = load_service_settings(environ)
    common = load_settings(environ, project_root=tmp_path, home=tmp_path, arguments=())
    guarded: Any = create_app(settings, common)
    logger = logging.getLogger("src")
    logger.addHandler(caplog.handler)
    said = [repr(settings), repr(common)]
    headers = {"X-API-Key": SECRETS["service key"]}
    known = {"{tx_hash}": THEFT, "{alert}": "1", "{job_id}": "a" * 32, "{identity}": "b" * 64}
    try:
        with TestClient(guarded, base_url=BASE_URL) as client:
            said.append(repr(guarded.app.state.service))
            for context in iter_route_contexts(guarded.app.routes):
                path = str(context.path).replace("{path:path}", "x")
                for marker, value in known.items():
                    path = path.replace(marker, value)
                for method in context.methods or ("GET",):
                    body = {"start_block": 1, "end_block": 2, "logs": []}
                    json_body = body if method == "POST" else None
                    answer = client.request(method, path, headers=headers, json=json_body)
                    said += [answer.text, str(answer.headers)]
            wanted = {"start_block": 1, "end_block": 2}
            for more in ({}, {"Prefer": "respond-async"}):
                answer = client.post("/anomaly_detection/", json=wanted, headers=headers | more)
                said.append(answer.text)
            for _ in range(3):
                said.append(client.get("/readyz").text)
                said.append(client.get("/jobs", headers=headers).text)
    finally:
        logger.removeHandler(caplog.handler)
    everything = "".join(said)
    assert "refused" in everything  # the node's words are told, the keys in them are not
    assert "***" in everything
    assert planted(everything) == []
    # The servers of this test log as well, in the same process.
    ours = [record for record in caplog.records if not record.name.startswith("werkzeug")]
    assert ours
    assert planted("".join(f"{record.getMessage()} {record.exc_text}" for record in ours)) == []
    assert planted(files_below(tmp_path)) == []


COMMANDS = (
    ["src.service.watch", "--once"],
    ["src.service", "--check"],
    ["src.backtest", "--from-block", "1", "--to-block", "2", "--out", "OUT", "--patience", "0.1"],
    ["src.history.record", "--from-block", "1", "--to-block", "2", "--out", "OUT",
     "--patience", "0.1"],
    ["src.training.collect", "--blocks", "manifest.csv", "--out", "OUT", "--patience", "0.1"],
    ["src.monitoring.forta_alerts", "--bot", "0x" + "ab" * 32, "--date", "2024-05-30"],
    ["src.registry", "--store", "s3://planted-store-secret@no-bucket/x", "list"],
)  # fmt: skip
# As `python -m` each, one after the other, so that what they have in common is imported once; and
# nobody waits between one attempt and the next.
RUN_ALL = """
import json, runpy, sys, time

time.sleep = lambda seconds: None
for module, *arguments in json.load(sys.stdin):
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit:
        pass
    for stream in (sys.stdout, sys.stderr):
        print("END OF " + module, file=stream, flush=True)
"""


@pytest.mark.integration
def test_no_planted_key_leaves_a_command(echo: str, tmp_path: Path) -> None:
    commands = [
        [str(tmp_path / f"out-{command[0]}") if word == "OUT" else word for word in command]
        for command in COMMANDS
    ]
    child = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        cwd=ROOT, env=environment(echo, tmp_path) | {"FORTA_API_URL": echo}, capture_output=True,
        input=json.dumps(commands), text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    out, err = child.stdout, child.stderr
    for module, *_ in commands:
        own, out = out.split(f"END OF {module}\n", 1)
        told, err = err.split(f"END OF {module}\n", 1)
        assert own + told, module
        assert "Traceback" not in own + told, module
        assert planted(own + told) == [], module
    assert planted(files_below(tmp_path)) == []


def test_signing_says_the_signature_and_not_the_key(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("x")
    child = subprocess.run(
        [sys.executable, "-m", "src.registry.sign", str(tmp_path / "policy.yaml")],
        cwd=ROOT, env={**os.environ, "MODEL_SIGNING_KEY": SECRETS["signing"]},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert planted(child.stdout + child.stderr + files_below(tmp_path)) == []


def test_a_private_key_in_the_environment_is_in_no_settings(tmp_path: Path) -> None:
    environ = {"MODEL_SIGNING_KEY": SECRETS["signing"]}
    settings = load_settings(environ, project_root=tmp_path, home=tmp_path, arguments=())
    assert settings.model_public_key == public_key(SECRETS["signing"])
    assert SECRETS["signing"] not in repr(settings)
    assert SECRETS["signing"] not in str(vars_of(settings))


def vars_of(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


def test_clients_and_their_errors_show_no_key_however_they_are_printed(echo: str) -> None:
    node = f"{echo}/{SECRETS['node']}?token={SECRETS['node query']}"
    clients: dict[str, tuple[Any, Any]] = {}
    rpc = JsonRpcClient(node)
    etherscan = EtherscanClient(f"{echo}/api", SECRETS["etherscan"], 1, timeout=PATIENCE)
    ethplorer = EthplorerClient(echo, SECRETS["ethplorer"], timeout=PATIENCE)
    http = HttpClient("x", node, timeout=PATIENCE, max_bytes=10, secrets=(SECRETS["forta"],))
    forta = FortaApi(SECRETS["forta"], url=echo, sleep=lambda _: None)
    clients["node"] = rpc, lambda: rpc.call("eth_call", [])
    clients["etherscan"] = etherscan, lambda: etherscan.first_transaction(ALICE)
    clients["ethplorer"] = ethplorer, lambda: ethplorer.token_info(ALICE)
    clients["http"] = http, lambda: http.get()
    clients["forta"] = (
        forta,
        lambda: list(forta.alerts_of_day("0x", date.min)),
    )
    clients["owner store"] = None, lambda: fetch_owner_secrets(node, node, timeout=PATIENCE)
    for name, (client, ask) in clients.items():
        with pytest.raises((SourceError, NotFound)) as caught:
            ask()
        error = caught.value
        # With everything that it refers to, as error reporters print it.
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
        context = repr(error.__cause__) + repr(error.__context__)
        assert planted(shown + context + repr(client) + str(client)) == [], name


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:planted-database-word@127.0.0.1:1/name",
        "postgresql://user:p@planted-database-word@127.0.0.1:1/name",
        "postgresql://user:planted-database-word@[/name",
        "planted-database-word://x",
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        Database(url).migrate()
    assert planted("".join(traceback.format_exception(caught.value))) == []


@pytest.mark.parametrize("url", ["s3://x/y", "s3://id:planted-forta-api-key@x/y", "nothing://x/y"])
def test_a_store_that_cannot_be_used_is_named_without_credentials(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted-forta-api-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-webhook-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the client waits before each retry
    with pytest.raises(StoreError) as caught:
        Store(url).read("x", 1)
    said = str(caught.value)
    assert SECRETS["forta"] not in said
    assert SECRETS["webhook secret"] not in said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_queue_of_notifications_knows_receivers_by_fingerprint(tmp_path: Path) -> None:
    from src.service.watch.notify import channels_of

    settings = load_service_settings(environment("http://127.0.0.1:1", tmp_path))
    names = [channel.name for channel in channels_of(settings)]
    assert len(set(names)) == 2
    assert planted("".join(names)) == []
    assert planted("".join(map(repr, channels_of(settings)))) == []
