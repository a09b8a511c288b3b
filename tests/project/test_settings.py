"""Settings come from the environment, then secrets.json, then the owner store; keys stay hidden."""

import json
import logging
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from src.service.settings import load_service_settings
from src.settings import SETTINGS, Settings, load_settings, read_settings
from src.variables import TEXT, Secret, SettingsError, setting
from tests.support import raw_server

KEY = "planted-api-key-0123456789"
REPOSITORY = Path(__file__).resolve().parents[2]


def load(folder: Path, **environ: str) -> Settings:
    home = folder / "home"
    return load_settings(environ, project_root=folder, home=home, arguments=[])


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def production(server: HTTPServer) -> dict[str, str]:
    return {
        "FORTA_JWT_PROVIDER_HOST": server.host,
        "FORTA_JWT_PROVIDER_PORT": str(server.port),
        "FORTA_OWNER_STORE_URL": server.url_for("/database/owner/secrets.json"),
    }


def test_nothing_set_gives_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings == Settings()
    assert settings.json_rpc_url is None
    assert settings.anomaly_threshold is None
    assert settings.model_path == REPOSITORY / "isolation_forest.pkl"


def test_every_setting_is_read_from_the_environment(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        JSON_RPC_URL="https://node/v3/abc",
        JSON_RPC_REQUESTS_PER_SECOND="10",
        ETHERSCAN_URL="https://eth.blockscout.com/api",
        ETHERSCAN_API_KEY=" k1 ",
        ETHPLORER_URL="http://ethplorer",
        ETHPLORER_API_KEY="k2",
        ANOMALY_THRESHOLD="0.6",
        MODEL_PATH="/models/m.pkl",
        MODEL_PUBLIC_KEY="ab" * 32,
        CHALLENGER_MODEL_PATH="/models/c.pkl",
        SUPERVISED_MODEL_PATH="/models/f.npz",
        POLICY_PATH="/policies/strict.yaml",
        NORMAL_FINDINGS="sampled:20",
        ADDRESS_LIST="https://lists/bad.json?key=abc",
        ADDRESS_LIST_REFRESH_MINUTES="5",
        REPEAT_WINDOW_MINUTES="0",
        CACHE_DIR="/cache",
        LOOKUP_DEADLINE_SECONDS="0.5",
        FORTA_CHAIN_ID="137",
    )
    assert settings == Settings(
        json_rpc_url="https://node/v3/abc",
        json_rpc_requests_per_second=10,
        etherscan_url="https://eth.blockscout.com/api",
        etherscan_api_key=Secret("k1"),
        ethplorer_url="http://ethplorer",
        ethplorer_api_key=Secret("k2"),
        anomaly_threshold=0.6,
        model_path=Path("/models/m.pkl"),
        model_public_key="ab" * 32,
        challenger_model_path=Path("/models/c.pkl"),
        supervised_model_path=Path("/models/f.npz"),
        policy_path=Path("/policies/strict.yaml"),
        normal_findings=20,
        address_list="https://lists/bad.json?key=abc",
        address_list_refresh_minutes=5.0,
        repeat_window_minutes=0.0,
        cache_dir=Path("/cache"),
        lookup_deadline_seconds=0.5,
        chain_id=137,
        is_chain_set=True,
    )


@pytest.mark.parametrize(("text", "one_in"), [("all", 1), ("off", 0), ("sampled:7", 7)])
def test_normal_findings_are_all_none_or_one_in_so_many(
    tmp_path: Path, text: str, one_in: int
) -> None:
    assert load(tmp_path, NORMAL_FINDINGS=text).normal_findings == one_in


@pytest.mark.parametrize("text", ["some", "sampled", "sampled:", "sampled:0", "sampled:-1", "7"])
def test_other_wishes_for_normal_findings_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="NORMAL_FINDINGS must be all, off, or sampled:K"):
        load(tmp_path, NORMAL_FINDINGS=text)


def test_an_address_list_is_a_file_or_a_url_and_stays_out_of_the_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, ADDRESS_LIST="https://lists/bad?key=planted")
    assert "planted" not in repr(settings)
    assert load(tmp_path, ADDRESS_LIST="bad.csv").address_list == "bad.csv"
    with pytest.raises(SettingsError, match="ADDRESS_LIST must be an http"):
        load(tmp_path, ADDRESS_LIST="ftp://lists/bad")


def test_empty_variables_count_as_unset(tmp_path: Path) -> None:
    assert load(tmp_path, **dict.fromkeys(SETTINGS, " ")) == Settings()


def test_environment_wins_over_the_secrets_file(tmp_path: Path) -> None:
    write(
        tmp_path / "secrets.json",
        {"ETHERSCAN_API_KEY": "from file", "ANOMALY_THRESHOLD": 0.7, "OTHER": {"x": 1}}
        | {"ETHERSCAN_API_KEY": "file", "apiKeys": {"ETHPLORER_API_KEY": "nested"}},
    )
    file = tmp_path / "secrets.json"
    file.write_text(f"\ufeff{file.read_text()}", encoding="utf-8")  # as Notepad saves it
    settings = load(tmp_path, ETHERSCAN_API_KEY="environment")
    assert settings.etherscan_api_key == Secret("environment")
    assert settings.ethplorer_api_key == Secret("nested")
    assert settings.anomaly_threshold == 0.7


# The node's URL


def test_node_url_is_taken_from_the_most_specific_place(tmp_path: Path) -> None:
    write(tmp_path / "home" / ".forta" / "forta.config.json", {"jsonRpcUrl": "http://global"})
    assert load(tmp_path).json_rpc_url == "http://global"
    commented = '{ // for local runs\n "jsonRpcUrl": "http://local" /* node */ }'
    write(tmp_path / "forta.config.json", commented)
    assert load(tmp_path).json_rpc_url == "http://local"
    write(tmp_path / "other" / "replay.json", {"jsonRpcUrl": "http://named"})
    arguments = ["wrapper.py", "run", "--tx", "0x", "--config", "other/replay.json"]
    home = tmp_path / "home"
    named = load_settings({}, project_root=tmp_path, home=home, arguments=arguments)
    assert named.json_rpc_url == "http://named"
    scan_node = {"JSON_RPC_HOST": "proxy", "JSON_RPC_PORT": "8545"}
    assert load(tmp_path, **scan_node).json_rpc_url == "http://proxy:8545"
    assert load(tmp_path, JSON_RPC_HOST="proxy").json_rpc_url == "http://proxy"
    own = {**scan_node, "JSON_RPC_URL": "http://own"}
    assert load(tmp_path, **own).json_rpc_url == "http://own"
    named = load_settings(own, project_root=tmp_path, home=home, arguments=arguments)
    assert named.json_rpc_url == "http://named"
    write(tmp_path / "other" / "replay.json", {})
    named = load_settings(own, project_root=tmp_path, home=home, arguments=arguments)
    assert named.json_rpc_url == "http://own"
    named = load_settings({}, project_root=tmp_path, home=home, arguments=arguments)
    assert named.json_rpc_url == "http://global"  # the CLI reads no other local file either


# Impossible values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANOMALY_THRESHOLD", "1.01"),
        ("ANOMALY_THRESHOLD", "-0.1"),
        ("ANOMALY_THRESHOLD", "nan"),
        ("ANOMALY_THRESHOLD", "inf"),
        ("ANOMALY_THRESHOLD", "high"),
        ("LOOKUP_DEADLINE_SECONDS", "0"),
        ("LOOKUP_DEADLINE_SECONDS", "-1"),
        ("LOOKUP_DEADLINE_SECONDS", "3600"),
        ("JSON_RPC_REQUESTS_PER_SECOND", "0"),
        ("JSON_RPC_REQUESTS_PER_SECOND", "1.5"),
        ("FORTA_CHAIN_ID", "0x1"),
        ("FORTA_CHAIN_ID", "9" * 30),
        ("JSON_RPC_URL", f"wss://node/{KEY}"),
        ("JSON_RPC_URL", KEY),
        ("ETHERSCAN_URL", f"ftp://{KEY}"),
        ("ETHPLORER_URL", f"https://[{KEY}"),
        ("ETHPLORER_URL", f"https://api.ethplorer.io/getTokenInfo/0x12?apiKey={KEY}"),
        ("PRICE_API_URL", f"https://coins.llama.fi/?key={KEY}"),
        ("ETHERSCAN_API_KEY", f"{KEY} two words"),
        ("ETHPLORER_API_KEY", f"{KEY}\nX-Header: y"),
        ("ETHERSCAN_API_KEY", f"'{KEY}'"),
        ("ADDRESS_LIST", f'"{KEY}"'),
        ("CACHE_DIR", f"s3://{KEY}/cache"),
        ("POLICY_PATH", f"file:///{KEY}"),
        ("MODEL_PATH", "~nobody-of-this-name/m.pkl"),
    ],
)
def test_impossible_value_names_the_setting_and_not_the_value(
    tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be ") as caught:
        load(tmp_path, **{name: value})
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert isinstance(caught.value, ValueError)


def test_impossible_value_is_shown_unless_it_may_be_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, ANOMALY_THRESHOLD="high\n")
    assert str(caught.value) == "ANOMALY_THRESHOLD must be a number from 0 to 1 (it is 'high')"
    with pytest.raises(SettingsError) as caught:
        load_service_settings({"VERIFY_BLOCKS": "x" * 500})
    assert str(caught.value) == "VERIFY_BLOCKS must be true or false (it has 500 characters)"
    for name in ("SERVICE_API_KEYS", "WEBHOOK_URLS"):
        with pytest.raises(SettingsError, match=f"^{name} must be ") as caught:
            load_service_settings({name: KEY[:12]})
        assert KEY[:12] not in "".join(traceback.format_exception(caught.value))


def test_a_misspelt_variable_is_named_with_the_one_that_is_meant(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, ETHERSCAN_APIKEY=KEY, ADDRES_LIST="bad.csv", SERVICE_APIKEYS=KEY)
    assert re.findall(r"(\w+) \(is (\w+) meant", caplog.text) == [
        ("ETHERSCAN_APIKEY", "ETHERSCAN_API_KEY"),
        ("ADDRES_LIST", "ADDRESS_LIST"),
        ("SERVICE_APIKEYS", "SERVICE_API_KEYS"),
    ]
    assert KEY not in caplog.text
    caplog.clear()
    known = {"METRIC_PORT": "1", "METRICS_PORT": "0", "WATCH_METRICS_PORT": "1", "NODE_PATH": "x"}
    load(tmp_path, **known, CACHEDIR=" ")
    assert caplog.text == ""


def test_impossible_host_and_port_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="JSON_RPC_HOST"):
        load(tmp_path, JSON_RPC_HOST="proxy", JSON_RPC_PORT="many")


@pytest.mark.parametrize(
    "content", [f'{{"ETHERSCAN_API_KEY": "{KEY}"', "[]", "null", "", "[" * 9999]
)
def test_file_that_is_no_json_object_is_named_and_not_shown(tmp_path: Path, content: str) -> None:
    write(tmp_path / "secrets.json", content)
    with pytest.raises(SettingsError, match=r"^secrets\.json must be a JSON object") as caught:
        load(tmp_path)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@dataclass(frozen=True)
class Own:
    urls: str = setting("JSON_RPC_URLS", TEXT, "", secret=True)


def test_settings_of_a_part_come_from_the_environment_then_secrets_json(tmp_path: Path) -> None:
    assert read_settings(Own, {}, project_root=tmp_path) == Own("")
    write(tmp_path / "secrets.json", {"apiKeys": {"JSON_RPC_URLS": "from the file"}})
    assert read_settings(Own, {}, project_root=tmp_path) == Own("from the file")
    environ = {"JSON_RPC_URLS": "from the environment"}
    assert read_settings(Own, environ, project_root=tmp_path) == Own("from the environment")


# The owner store


def test_keys_come_from_the_owner_store_in_production(
    tmp_path: Path, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/create", method="POST", json={"claims": {}}).respond_with_json(
        {"token": "header.payload.signature"}
    )
    httpserver.expect_request(
        "/database/owner/secrets.json",
        headers={"Authorization": "Bearer header.payload.signature"},
    ).respond_with_json({"apiKeys": {"ETHERSCAN_API_KEY": "store", "ETHPLORER_API_KEY": "store"}})
    lines = {name: f"{value}\n" for name, value in production(httpserver).items()}
    settings = load(tmp_path, **lines, ETHPLORER_API_KEY="environment")
    assert settings.etherscan_api_key == Secret("store")
    assert settings.ethplorer_api_key == Secret("environment")


def test_owner_store_is_not_asked_when_all_keys_are_there_or_outside_production(
    tmp_path: Path, httpserver: HTTPServer
) -> None:
    keys = {"ETHERSCAN_API_KEY": "a", "ETHPLORER_API_KEY": "b"}
    load(tmp_path, **production(httpserver), **keys)
    load(tmp_path, FORTA_OWNER_STORE_URL=httpserver.url_for("/"))
    assert not httpserver.log


@pytest.mark.parametrize(
    ("provider", "store"),
    [
        ("{}", "{}"),
        ("[]", "{}"),
        ('{"token": 7}', "{}"),
        ('{"token": "a\\nb"}', "{}"),
        (f'{{"token": "{KEY}"}}', "[]"),
        (f'{{"token": "{KEY}"}}', f"<html>{KEY}</html>"),
    ],
)
def test_failing_owner_store_costs_a_warning_and_the_keys(
    tmp_path: Path,
    httpserver: HTTPServer,
    caplog: pytest.LogCaptureFixture,
    provider: str,
    store: str,
) -> None:
    httpserver.expect_request("/create").respond_with_data(provider)
    httpserver.expect_request("/database/owner/secrets.json").respond_with_data(store)
    settings = load(tmp_path, **production(httpserver))
    assert settings.etherscan_api_key is None
    (warning,) = [record for record in caplog.records if record.name == "src.settings"]
    assert warning.levelno == logging.WARNING
    assert KEY not in warning.getMessage()


def test_hanging_owner_store_does_not_stop_the_bot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.settings._OWNER_STORE_TIMEOUT_SECONDS", 0.1)
    with raw_server.raw_server(raw_server.hang) as url:
        host, port = url.removeprefix("http://").split(":")
        settings = load(tmp_path, FORTA_JWT_PROVIDER_HOST=host, FORTA_JWT_PROVIDER_PORT=port)
    assert settings.etherscan_api_key is None


# Secrets and documentation


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        JSON_RPC_URL=f"https://node/v3/{KEY}",
        ETHERSCAN_URL=f"https://explorer/{KEY}",
        ETHERSCAN_API_KEY=KEY,
        ETHPLORER_API_KEY=KEY,
    )
    assert KEY not in repr(settings)
    key = settings.etherscan_api_key
    assert KEY not in f"{key} {key!r} {[key]} {json.dumps(key, default=str)}"
    assert key == Secret(KEY)


# Not for people to set: they come from the scan node, from CI or from the terminal.
GIVEN = {
    "PATH_INFO",
    "FORTA_JWT_PROVIDER_HOST",
    "FORTA_JWT_PROVIDER_PORT",
    "GITHUB_SHA",
    "JSON_RPC_HOST",
    "JSON_RPC_PORT",
    "NO_COLOR",
    "PROMETHEUS_MULTIPROC_DIR",
    "TMPDIR",
    "SOURCE_DATE_EPOCH",
}


class Noting(dict[str, str]):
    """An empty environment that notes what is looked for in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def names_in_the_code() -> set[str]:
    environment = Noting()
    load_settings(environment, arguments=[])
    load_service_settings(environment)
    text = "".join(path.read_text() for path in (REPOSITORY / "src").rglob("*.py"))
    read = (
        r'environ(?:\.get\(|\[)"([A-Z_]+)"|env\.get\("([A-Z_]+)"|_VARIABLE = "([A-Z_]+)"'
        r'|setting\("([A-Z_]+)"'
    )
    found = {name for names in re.findall(read, text) for name in names if name}
    return (environment.names | found) - GIVEN


def names_in_the_deployment() -> set[str]:
    text = "".join(path.read_text() for path in (REPOSITORY / "deploy").glob("compose*.yaml"))
    return set(re.findall(r"\$\{([A-Z_]+)", text)) | set(
        re.findall(r"^ +environment: ([A-Z_]+)$", text, re.MULTILINE)
    )


def test_the_example_lists_every_setting_and_no_other() -> None:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    listed = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert len(set(listed)) == len(listed)
    assert set(listed) == names_in_the_code() | names_in_the_deployment()


def test_every_setting_of_the_service_is_described() -> None:
    environment = Noting()
    load_service_settings(environment)
    documents = "".join(path.read_text() for path in (REPOSITORY / "docs").glob("*.md"))
    assert {name for name in environment.names if name not in documents} == set()
