"""`POST /screen`, on a local chain and on a node that cannot simulate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from starlette.testclient import TestClient

from src.demo.anvil import anvil
from src.service.app import create_app
from src.service.context import Service
from src.service.database.screenings import (
    Mined,
    add_screenings,
    join_mined,
    store_screening,
)
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url
from tests.service.database.rows import screening
from tests.support.recording_chain import call_data, creation_code

pytestmark = pytest.mark.integration

KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""Of Anvil's first account."""
PAID = "0x" + "b2" * 20
FEES = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str, str]]:
    folder = tmp_path_factory.mktemp("service")
    with anvil(timestamp=1_700_000_000) as chain:
        owner = chain.accounts[0]
        types = ["string", "string", "uint256", "address"]
        code = creation_code("ERC20PresetFixedSupply", types, "Token", "TKN", 10**24, owner)
        token = str(chain.send(owner, data=code)["contractAddress"]).lower()
        app = create_app(service_settings(sqlite_url(folder)), common_settings(chain.url))
        with TestClient(app, base_url=BASE_URL) as client:
            yield client, owner, token


def transfer(owner: str, token: str, amount: int = 10**20) -> dict[str, Any]:
    data = call_data("0xa9059cbb", ["address", "uint256"], PAID, amount)
    return {"from": owner, "to": token, "input": data}


def screen(client: TestClient, *transactions: Any, **query: Any) -> dict[str, Any]:
    answer = client.post("/screen", json={"transactions": transactions}, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_call_is_decided_on_and_nothing_is_stored(
    served: tuple[TestClient, str, str],
) -> None:
    client, owner, token = served
    answer = screen(client, transfer(owner, token))
    assert answer["status"] == "success"
    assert answer["block"] == 2
    assert answer["method"] == "eth_simulateV1"
    assert "TKN" in answer["summary"]
    (one,) = answer["transactions"]
    assert one["sender"] == owner
    assert one["action"] == answer["action"]
    assert 21_000 < one["gas_used"] < 100_000
    assert "anomaly_score" not in one
    assert client.get("/alerts").json() == []
    tokens = client.get(f"/transactions/{'0x' + '11' * 32}/decision")
    assert tokens.status_code == 404


def test_scores_are_details(served: tuple[TestClient, str, str]) -> None:
    client, owner, token = served
    (one,) = screen(client, transfer(owner, token), details=True)["transactions"]
    assert 0 < one["anomaly_score"] < 1
    assert one["features"]["transfer_counts"] == 1


def test_a_raw_transaction_is_known_by_its_hash_and_signer(
    served: tuple[TestClient, str, str],
) -> None:
    client, owner, token = served
    call = transfer(owner, token)
    signed = Account.sign_transaction(
        {"to": Account.from_key(KEY).address, "value": 3, "nonce": 1, "gas": 21_000,
         "chainId": 1, **FEES}, KEY,
    )  # fmt: skip
    raw = "0x" + bytes(signed.raw_transaction).hex()
    answer = screen(client, raw, call | {"nonce": 2})
    assert [one["transaction_hash"] for one in answer["transactions"]] == [
        "0x" + bytes(signed.hash).hex(), "",
    ]  # fmt: skip
    assert answer["status"] == "success"


def test_what_would_revert_is_not_safe(served: tuple[TestClient, str, str]) -> None:
    client, owner, token = served
    call = transfer(owner, token, 10**30) | {"gas": 200_000}
    answer = screen(client, call)
    assert (answer["status"], answer["action"]) == ("reverts", "REVIEW")
    assert answer["problem"]
    assert answer["reasons"][0].startswith("it would revert now")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("0x02c0", "not a signed transaction"),
        ("0x7f" + "00" * 40, "unknown type"),
        ("0x" + "c1" * 3_000, "not a signed transaction"),
    ],
)
def test_what_is_no_transaction_is_unknown(
    served: tuple[TestClient, str, str], raw: str, why: str
) -> None:
    answer = screen(served[0], raw)
    assert (answer["status"], answer["action"]) == ("unknown", "REVIEW")
    assert why in answer["problem"]
    assert answer["transactions"] == []


@pytest.mark.parametrize(
    ("transaction", "why"),
    [
        ("0x123", "transactions"),
        ("no hex", "transactions"),
        ({"to": PAID}, "from"),
        ({"from": PAID, "value": "-1"}, "value"),
        ({"from": PAID, "input": "0xzz"}, "input"),
        ({"from": PAID, "input": "0x01", "data": "0x02"}, "differ"),
        ({"from": PAID, "gas": 2**64}, "gas"),
        ({"from": PAID, "accessList": [{"address": "x"}]}, "accessList"),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(
    served: tuple[TestClient, str, str], transaction: Any, why: str
) -> None:
    answer = served[0].post("/screen", json={"transactions": [transaction]})
    assert answer.status_code == 422
    assert why in answer.json()["detail"]


@pytest.mark.parametrize(("chain_id", "status"), [(1, 200), ("0x1", 200), (10, 422), ("0xa", 422)])
def test_a_call_for_another_chain_is_told_so(
    served: tuple[TestClient, str, str], chain_id: Any, status: int
) -> None:
    client, owner, token = served
    call = transfer(owner, token) | {"chainId": chain_id}
    answer = client.post("/screen", json={"transactions": [call]})
    assert answer.status_code == status
    assert ("chainId must be 1" in answer.text) == (status == 422)


@pytest.mark.parametrize("transactions", [[], ["0x00"] * 17])
def test_a_bundle_has_1_to_16_transactions(
    served: tuple[TestClient, str, str], transactions: list[str]
) -> None:
    answer = served[0].post("/screen", json={"transactions": transactions})
    assert answer.status_code == 422


def test_a_node_that_cannot_simulate_leaves_it_unknown(tmp_path: Path) -> None:
    app = create_app(service_settings(sqlite_url(tmp_path)), common_settings())
    with TestClient(app, base_url=BASE_URL) as client:
        answer = screen(client, transfer(PAID, PAID))
    assert (answer["status"], answer["action"]) == ("unknown", "REVIEW")
    assert "does not simulate" in answer["problem"]


def test_screenings_are_listed_page_by_page(served: tuple[TestClient, str, str]) -> None:
    client = served[0]
    app: Any = client.app
    service: Service = app.app.state.service
    found = [screening(number) for number in range(5)]
    with service.database.writing() as connection:
        store_screening(connection, found[0])
        add_screenings(
            connection,
            [
                screening(number, source="guard", outcome="held", is_enforced=True)
                for number in range(1, 5)
            ],
        )
        mined = {str(found[0].tx_hash): Mined(8, action=0, is_reverted=True)}
        join_mined(connection, "pending", 1, mined, 1_700_000_012.0)
    seen, page = [], client.get("/screenings?limit=2")
    while "next" in page.links:
        seen += [one["id"] for one in page.json()]
        page = client.get(page.links["next"]["url"])
    assert [*seen, *(one["id"] for one in page.json())] == ["u4", "u3", "u2", "u1", "u0"]
    assert page.headers["x-total-count"] == "5"
    (one,) = client.get("/screenings", params={"state": "mined"}).json()
    assert (one["action"], one["mined_action"], one["lead_seconds"]) == ("REVIEW", "ALLOW", 12.0)
    assert (one["source"], one["reverted"], one["told"]) == ("pending", True, False)
    assert client.get("/screenings", params={"action": "BLOCK"}).json() == []
    assert len(client.get("/screenings", params={"source": "guard"}).json()) == 4
    assert client.get("/screenings?cursor=bm8").status_code == 422
    text = client.get("/ui/screenings").text
    assert "5 screenings" in text
    assert "It moves 4." in text
    assert "not sent" in client.get("/ui/screenings/u4").text
    assert "differs" in client.get("/ui/screenings/u0").text
    for path, words in (("u0", "Nothing to do."), ("u4", "Nothing to do: it was not sent.")):
        assert words in client.get(f"/ui/screenings/{path}").text
    assert client.get("/ui/screenings/nothing").status_code == 404
