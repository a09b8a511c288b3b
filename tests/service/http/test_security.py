"""Keys, limits, other sites, headers: what holds for every request."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from src.service.app import create_app
from src.service.http.security import ClientLimits
from src.service.settings import ServiceSettings, load_common_settings, load_service_settings
from src.variables import SettingsError
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url
from tests.support.waiting import FOR_EVER, FakeClock, wait_until

KEY, OTHER_KEY = "k" * 32, "o" * 32


def open_client(folder: Path, **changes: Any) -> TestClient:
    settings = service_settings(sqlite_url(folder), **changes)
    return TestClient(create_app(settings, common_settings()), base_url=BASE_URL)


def keyed() -> tuple[Any, ...]:
    keys = f"ann:{KEY}, bob:{OTHER_KEY}"
    return load_service_settings({"SERVICE_API_KEYS": keys}).api_keys


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with open_client(tmp_path_factory.mktemp("public"), host="0.0.0.0", api_keys=keyed()) as opened:
        yield opened


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with open_client(tmp_path_factory.mktemp("local"), max_body_bytes=2_000) as opened:
        yield opened


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"me:{key}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {OTHER_KEY}"},
        {"X-API-Key": KEY},
        {"Authorization": basic(KEY)},
    ],
)
def test_a_key_lets_in(public: TestClient, headers: dict[str, str]) -> None:
    assert public.get("/alerts", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": "Basic ???"},
        {"Authorization": basic("")},
        {"X-API-Key": "\xff\xfe"},
    ],
)
@pytest.mark.parametrize("path", ["/alerts", "/docs", "/metrics", "/nothing", "/openapi.json"])
def test_requests_without_a_key_are_unauthorized(
    public: TestClient, path: str, headers: dict[str, str]
) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = public.get(path, headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_browsers_are_asked_for_the_key(public: TestClient) -> None:
    answer = public.get("/docs", headers={"Accept": "text/html"})
    assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_key(public: TestClient, path: str) -> None:
    wait_until(lambda: public.get(path).status_code == 200)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8080"])
def test_an_unknown_host_header_is_rejected(local: TestClient, host: str) -> None:
    assert local.get("/alerts", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_sites_page_cannot_write(local: TestClient, headers: dict[str, str]) -> None:
    answer = local.post("/decisions", json={"logs": []}, headers=headers)
    assert answer.status_code == 403


def test_our_own_page_can_write(local: TestClient) -> None:
    headers = {"Origin": BASE_URL, "Sec-Fetch-Site": "same-origin"}
    assert local.post("/decisions", json={"logs": []}, headers=headers).status_code == 200


@pytest.mark.parametrize("known_length", [True, False])
def test_a_large_body_is_refused(local: TestClient, known_length: bool) -> None:
    body = b" " * 5_000
    content: Any = body if known_length else iter([body[:1_000]] * 5)
    answer = local.post("/decisions", content=content)
    assert answer.status_code == 413


def test_no_script_from_elsewhere_may_run(local: TestClient) -> None:
    headers = local.get("/alerts").headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers
    assert (
        "access-control-allow-origin"
        not in local.get("/alerts", headers={"Origin": "https://evil.example"}).headers
    )


def test_a_harmless_request_id_is_kept_and_any_other_replaced(local: TestClient) -> None:
    given_id = local.get("/healthz", headers={"X-Request-ID": "trace-12345"}).headers
    assert given_id["x-request-id"] == "trace-12345"
    hostile = local.get("/healthz", headers={"X-Request-ID": "a b;c"}).headers
    assert hostile["x-request-id"] != "a b;c"


def test_a_client_over_the_rate_limit_gets_429(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four requests in four seconds, had one the time to wait for the fifth.
    monkeypatch.setattr("src.service.http.security._BURST_SECONDS", FOR_EVER)
    with open_client(tmp_path, requests_per_second=4 / FOR_EVER) as client:
        answers = [client.get("/alerts") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
        assert answers[-1].headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200


def test_each_client_has_bursts_of_four_seconds_worth() -> None:
    clock = FakeClock()
    limits = ClientLimits(1.0, clock)
    assert [limits.allows("ann") for _ in range(5)] == [True] * 4 + [False]
    assert limits.allows("bob")
    clock.now += 3.9
    assert not limits.allows("ann")
    clock.now += 0.1
    assert [limits.allows("ann") for _ in range(5)] == [True] * 4 + [False]


def test_origins_that_are_named_may_call(tmp_path: Path) -> None:
    with open_client(tmp_path, cors_origins=("https://app.example",), api_keys=keyed()) as client:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        preflight = client.options("/decisions", headers=asked)
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        headers = {"Origin": "https://app.example", "X-API-Key": KEY}
        assert client.post("/decisions", json={"logs": []}, headers=headers).status_code == 200
        headers |= {"Sec-Fetch-Site": "cross-site"}
        assert client.post("/decisions", json={"logs": []}, headers=headers).status_code == 200
        for other in ("https://evil.example", "null", "http://app.example", "http://["):
            headers["Origin"] = other
            assert client.post("/decisions", json={"logs": []}, headers=headers).status_code == 403


def test_feedback_carries_the_keys_name(public: TestClient) -> None:
    headers = {"X-API-Key": OTHER_KEY}
    wait_until(lambda: public.get("/alerts", headers=headers).json())
    alerts = public.get("/alerts", headers=headers).json()
    url = f"/alerts/{alerts[0]['id']}/feedback"
    answer = public.post(url, json={"is_true_positive": False}, headers=headers).json()
    assert [said["author"] for said in answer["feedback"]] == ["bob"]


def test_beyond_loopback_a_key_is_needed_to_start() -> None:
    with pytest.raises(SettingsError, match="SERVICE_API_KEYS"):
        load_service_settings({"SERVICE_HOST": "0.0.0.0"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_PORT", "99999"),
        ("SERVICE_WORKERS", "0"),
        ("SERVICE_API_KEYS", "short"),
        ("SERVICE_CORS_ORIGINS", "*"),
        ("ANALYSIS_FEATURES", "value,volume"),
        ("ANALYSIS_FEATURES", "value,value"),
        ("ANALYSIS_CONTAMINATION", "0.9"),
        ("VERIFY_BLOCKS", "perhaps"),
        ("NOTIFY_FROM", "PANIC"),
        ("WEBHOOK_URLS", "ftp://x"),
        ("WATCH_FROM_BLOCK", "-1"),
    ],
)
def test_an_impossible_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_service_settings({name: value})


def test_a_webhook_needs_a_secret() -> None:
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET"):
        load_service_settings({"WEBHOOK_URLS": "https://x.example/hook"})


def test_no_secret_shows_in_the_settings() -> None:
    settings = load_service_settings(
        {
            "SERVICE_API_KEYS": f"ann:{KEY}",
            "DATABASE_URL": "postgresql://u:hunter2@h/d",
            "WEBHOOK_URLS": "https://x.example/hunter2",
            "WEBHOOK_SECRET": "hunter2",
            "NOTIFY_URLS": "tgram://hunter2/1",
        }
    )
    assert KEY not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_without_configuration_everything_has_a_default() -> None:
    assert load_service_settings({}) == ServiceSettings()


def test_only_an_explicit_node_ends_the_demo() -> None:
    assert load_common_settings({}).json_rpc_url is None
    url = "http://127.0.0.1:8545"
    assert load_common_settings({"JSON_RPC_URL": url}).json_rpc_url == url
    named = load_common_settings({"JSON_RPC_HOST": "node", "JSON_RPC_PORT": "1"})
    assert named.json_rpc_url == "http://node:1"


def test_hosts_and_origins_are_read_as_people_paste_them() -> None:
    pasted = "example.org:8080, https://a.example/ui [::1]:80 ::1"
    settings = load_service_settings({"SERVICE_ALLOWED_HOSTS": pasted})
    assert settings.allowed_hosts == ("example.org", "a.example", "[::1]", "::1")
    pasted = "https://App.example/ https://b.example:443 http://c.example:8080"
    settings = load_service_settings({"SERVICE_CORS_ORIGINS": pasted})
    expected = ("https://app.example", "https://b.example", "http://c.example:8080")
    assert settings.cors_origins == expected
    with pytest.raises(SettingsError):
        load_service_settings({"SERVICE_CORS_ORIGINS": "https://a.example/path"})
