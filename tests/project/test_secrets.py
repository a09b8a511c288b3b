"""Plant keys wherever keys can be, then search everything that leaves the process."""

import json
import traceback
import urllib.request
from pathlib import Path

import pytest
from werkzeug import Request, Response

from src.demo.processes import free_port
from src.settings import load_settings
from src.variables import SettingsError
from tests.conftest import ALICE, BOB, TIMESTAMP, UNKNOWN_TOKEN, transfer_log
from tests.support.fake_chain import serve
from tests.support.forta_bridge import production_bot, transaction_event
from tests.support.waiting import PATIENCE

SECRETS = {
    "etherscan": "planted-etherscan-key",
    "ethplorer": "planted-ethplorer-key",
    "node path": "planted-node-path-key",
    "node query": "planted-node-query-key",
    "list query": "planted-list-query-key",
    "owner store": "planted-owner-store-token",
}


def planted(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text]


def echoing(request: Request) -> Response:
    """A server that repeats to its client what the client sent: keys in messages of errors."""
    if request.path.endswith("/create"):
        return Response(json.dumps({"token": SECRETS["owner store"]}))
    words = f"Invalid API key {request.url} {dict(request.headers)}"
    if request.method == "POST":
        answer = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": words}}
    else:
        answer = {"status": "0", "message": "NOTOK", "result": words, "error": {"message": words}}
    return Response(json.dumps(answer))


def settings_with_keys(url: str, cache: Path) -> dict[str, str]:
    host = url.removeprefix("http://")
    return {
        "JSON_RPC_URL": f"{url}/{SECRETS['node path']}?token={SECRETS['node query']}",
        "ETHERSCAN_URL": f"{url}/api",
        "ETHERSCAN_API_KEY": SECRETS["etherscan"],
        "ETHPLORER_URL": url,
        "ETHPLORER_API_KEY": SECRETS["ethplorer"],
        "ADDRESS_LIST": f"{url}/list.json?key={SECRETS['list query']}",
        "CACHE_DIR": str(cache),
        "FORTA_JWT_PROVIDER_HOST": host.split(":")[0],
        "FORTA_JWT_PROVIDER_PORT": host.split(":")[1].split("/")[0],
        "FORTA_OWNER_STORE_URL": f"{url}/owner",
    }


@pytest.mark.integration
def test_no_planted_key_leaves_the_bot(tmp_path):
    """The real bot, keys everywhere, servers that repeat them: whatever leaves it is searched."""
    cache = tmp_path / "cache"
    port = free_port()
    with (
        serve(echoing) as url,
        production_bot(
            tmp_path, settings_with_keys(url, cache) | {"METRICS_PORT": str(port)}
        ) as bot,
    ):
        assert bot.initialize().status == 2
        log = transfer_log(UNKNOWN_TOKEN, ALICE, BOB, 5)
        del log["logIndex"]
        said = []
        for number in range(8):  # enough for the circuit breakers to open and to be reported
            event = transaction_event(
                tx_hash=f"0x{number:064x}", sender=ALICE, logs=[log], timestamp=TIMESTAMP
            )
            response = bot.evaluate(event)
            assert len(response.findings) >= 1
            said.append(str(response))
        said.append(str(bot.health_check()))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            metrics = answer.read().decode()
    logged = (tmp_path / "bot.log").read_text(errors="replace")
    kept = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    assert "Invalid API key" in "".join(said)  # the words are repeated, the keys in them are not
    assert "***" in "".join(said)
    assert not planted("".join(said))
    assert not planted(logged)
    assert "_total" in metrics
    assert not planted(metrics)
    assert not planted(kept.decode("latin-1"))
    assert "source in trouble" in logged


@pytest.mark.parametrize(
    "content", ['{{"ETHERSCAN_API_KEY": "{key}"', '["{key}"]', '// {key}\n{{"a": }}']
)
def test_a_broken_secrets_file_is_not_shown(tmp_path, content):
    key = SECRETS["etherscan"]
    (tmp_path / "secrets.json").write_text(content.format(key=key))
    with pytest.raises(SettingsError) as caught:
        load_settings({}, project_root=tmp_path, home=tmp_path, arguments=())
    assert not planted("".join(traceback.format_exception(caught.value)))


def test_settings_do_not_show_their_keys(tmp_path):
    environ = settings_with_keys("http://127.0.0.1:1/x", tmp_path)
    for name in [name for name in environ if name.startswith("FORTA")]:
        del environ[name]
    settings = load_settings(environ, project_root=tmp_path, home=tmp_path, arguments=())
    assert settings.etherscan_api_key.value == SECRETS["etherscan"]
    assert not planted(repr(settings))
