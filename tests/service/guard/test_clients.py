"""Who may use the guard: keys, hosts, and pages of other sites."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import requests

from src.service.settings import ApiKey, ServiceSettings
from tests.service.guard.guarding import Guarded, Node, guard
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.integration

KEY = "a-key-of-the-client"
PERCENT = "100%41"
"""A key that is another one if it is unquoted once too often."""

CALL: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}


@pytest.fixture
def keyed(upstream: Node) -> Iterator[Guarded]:
    keys = tuple(ApiKey("ann", hashlib.sha256(one.encode()).digest()) for one in (KEY, PERCENT))
    settings = ServiceSettings(api_keys=keys, cors_origins=("https://wallet.example",))
    with guard(upstream.url, settings=settings) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("", {"X-API-Key": KEY}),
        ("", {"Authorization": f"Bearer {KEY}"}),
        (f"/{KEY}", {}),
        (f"/{quote(PERCENT)}", {}),
        (f"/{KEY}/", {"Content-Type": "text/plain"}),
    ],
)
def test_a_key_opens_it_in_every_form(keyed: Guarded, path: str, headers: dict[str, str]) -> None:
    found = requests.post(keyed.url + path, json=CALL, headers=headers, timeout=PATIENCE)
    assert found.json()["result"] == "eth_chainId"


@pytest.mark.parametrize(
    ("path", "headers"), [("", {}), ("/wrong-key", {}), (f"/{KEY}", {"X-API-Key": "wrong"})]
)
def test_without_its_key_nothing_passes(
    keyed: Guarded, upstream: Node, path: str, headers: dict[str, str]
) -> None:
    found = requests.post(keyed.url + path, json=CALL, headers=headers, timeout=PATIENCE)
    assert (found.status_code, upstream.bodies) == (401, [])
    assert found.json()["error"]["code"] == -32600


def test_decisions_name_the_keys_owner(keyed: Guarded) -> None:
    body = {**CALL, "method": "eth_sendRawTransaction", "params": ["0x" + "ab" * 90]}
    requests.post(f"{keyed.url}/{KEY}", json=body, timeout=PATIENCE)
    assert keyed.stored[0].client == "ann"


def test_sockets_need_a_key_as_well(keyed: Guarded, upstream: Node) -> None:
    async def connect(path: str) -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(keyed.url + path):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    assert asyncio.run(connect("")) == 401
    assert asyncio.run(connect(f"/{KEY}")) == 101


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn"}, 200),
    ],
)
def test_pages_of_other_sites_stay_out_and_wallets_do_not(
    guarded: Guarded, upstream: Node, headers: dict[str, str], status: int
) -> None:
    found = requests.post(guarded.url, json=CALL, headers=headers, timeout=PATIENCE)
    assert (found.status_code, len(upstream.bodies)) == (status, int(status == 200))


def test_pages_of_an_allowed_origin_may_read_answers(keyed: Guarded) -> None:
    headers = {"Origin": "https://wallet.example", "Access-Control-Request-Method": "POST"}
    preflight = requests.options(f"{keyed.url}/{KEY}", headers=headers, timeout=PATIENCE)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
    found = requests.post(f"{keyed.url}/{KEY}", json=CALL, headers=headers, timeout=PATIENCE)
    assert found.headers["Access-Control-Allow-Origin"] == "https://wallet.example"
    assert found.json()["result"] == "eth_chainId"
