"""Etherscan's answers become a first transaction, "not found", or a typed failure."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from src.chain.clients.etherscan import EtherscanClient
from src.chain.clients.urls import explorer_api
from src.chain.errors import (
    MalformedAnswer,
    NotFound,
    PassingError,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from src.chain.facts import FirstTransaction
from src.settings import load_settings
from src.variables import SettingsError, reveal
from tests.support.fake_chain import ETHERSCAN_LIMIT, NO_TRANSACTIONS, etherscan_answer
from tests.support.waiting import PATIENCE

ADDRESS = "0x" + "ab" * 20
KEY = "PLANTEDETHERSCANKEY"


def ask(server: HTTPServer, body: str | Any, status: int = 200) -> FirstTransaction:
    text = body if isinstance(body, str) else json.dumps(body)
    server.expect_request("/api").respond_with_data(text, status=status)
    client = EtherscanClient(server.url_for("/api"), KEY, 1, timeout=PATIENCE)
    try:
        return client.first_transaction(ADDRESS)
    finally:
        client.close()


def test_first_transaction_is_read_and_the_v2_request_is_right(httpserver: HTTPServer) -> None:
    assert ask(httpserver, etherscan_answer()) == FirstTransaction(1_500_000_000, "etherscan")
    ((request, _),) = httpserver.log
    expected = {"chainid": "1", "module": "account", "action": "txlist", "address": ADDRESS}
    expected |= {"sort": "asc", "page": "1", "offset": "1", "apikey": KEY}
    assert expected.items() <= request.args.to_dict().items()


ANY = "https://scan.example"


@pytest.mark.parametrize(
    ("pasted", "used"),
    [
        ("https://etherscan.io", "https://api.etherscan.io/v2/api"),
        ("https://api.etherscan.io/api", "https://api.etherscan.io/v2/api"),
        ("https://api.etherscan.io/v2/api?chainid=1", "https://api.etherscan.io/v2/api"),
        ("https://etherscan.io./address/0x12", "https://api.etherscan.io/v2/api"),
        ("https://cn.etherscan.com/", "https://api.etherscan.io/v2/api"),
        *[
            (f"{ANY}{path}", f"{ANY}/api")
            for path in (
                "", "/", "/api", "/api/", "/api?", "/api?module=account&action=txlist", "/api/v2",
                "/api/v2/", "/api/eth-rpc", "/api-docs", "/address/0x12?tab=txs", "/txs", "/api#x",
                "/en/address/0x12", "/validators", "/op/0x12", "/index.html", "/#/address/0x12",
            )
        ],
        (f"{ANY}/API/v2", f"{ANY}/api"),
        (f"{ANY}/gas-tracker", f"{ANY}/api"),
        (f"{ANY}/eth/mainnet", f"{ANY}/eth/mainnet/api"),
        (f"{ANY}/eth/mainnet/tx/0x1", f"{ANY}/eth/mainnet/api"),
        (f"{ANY}/v2/network/evm/43114/etherscan/api", f"{ANY}/v2/network/evm/43114/etherscan/api"),
        ("http://user:word@10.0.0.1:4000/", "http://user:word@10.0.0.1:4000/api"),
    ],
)  # fmt: skip
def test_any_url_of_an_explorer_leads_to_its_api(pasted: str, used: str) -> None:
    assert explorer_api(pasted) == used
    assert explorer_api(used) == used


def test_a_key_in_the_url_of_a_request_is_used() -> None:
    environ = {"ETHERSCAN_URL": f"https://own.example/api?module=account&apiKey={KEY}#x"}
    settings = load_settings(environ, arguments=())
    assert reveal(settings.etherscan_api_key) == KEY
    assert KEY not in repr(settings)
    other = load_settings(environ | {"ETHERSCAN_API_KEY": "other"}, arguments=())
    assert reveal(other.etherscan_api_key) == "other"


@pytest.mark.parametrize(
    "url",
    ["https://api.bscscan.com/api", "https://api-sepolia.etherscan.io/api", "https://arbiscan.io",
     "https://mantlescan.xyz", "scan.example/api", "ftp://scan.example"],
)  # fmt: skip
def test_what_cannot_be_an_explorers_api_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"any more|not a URL"):
        explorer_api(url)
    with pytest.raises(SettingsError, match="ETHERSCAN_URL must be"):
        load_settings({"ETHERSCAN_URL": url}, arguments=())


def test_the_first_of_a_page_is_the_earliest_in_whatever_order(httpserver: HTTPServer) -> None:
    page = [{"timeStamp": str(time)} for time in (1_600_000_000, 1_500_000_000, 1_700_000_000)]
    found = ask(httpserver, {"status": "1", "message": "OK", "result": page})
    assert found == FirstTransaction(1_500_000_000, "etherscan")


@pytest.mark.parametrize(
    "message",
    ["No transactions found", "No transactions found.", "no transaction found", "No records found",
     "NOTOK: No transactions found", "No data found", "Address not found", "No transactions",
     "There is no transaction", "This address has no transactions", "Nothing found"],
)  # fmt: skip
@pytest.mark.parametrize("result", [[], None, ""])
def test_no_transactions_has_more_wordings_than_one(
    httpserver: HTTPServer, message: str, result: object
) -> None:
    with pytest.raises(NotFound):
        ask(httpserver, {"status": "0", "message": message, "result": result})


@pytest.mark.parametrize(
    ("message", "result"),
    [("NOTOK", "No transactions found"), ("NOTOK", "Error! No transactions found"),
     ("No transactions found", "No transactions found"), ("There are no transactions", []),
     ("No entries found", [])],
)  # fmt: skip
def test_no_transactions_may_stand_in_the_result(
    httpserver: HTTPServer, message: str, result: object
) -> None:
    with pytest.raises(NotFound):
        ask(httpserver, {"status": "0", "message": message, "result": result})


def test_url_without_a_path_gets_one_and_no_key_sends_none(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api").respond_with_json(etherscan_answer())
    EtherscanClient(httpserver.url_for(""), None, 1, timeout=PATIENCE).first_transaction(ADDRESS)
    ((request, _),) = httpserver.log
    assert "apikey" not in request.args


def test_new_address_is_not_found(httpserver: HTTPServer) -> None:
    with pytest.raises(NotFound):
        ask(httpserver, NO_TRANSACTIONS)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, "", RateLimited),
        (500, "", SourceUnavailable),
        (403, "", RequestRefused),
        (200, ETHERSCAN_LIMIT, RateLimited),
        (200, {"status": "0", "message": "Max rate limit reached"}, RateLimited),
        (200, {"status": "0", "message": "Quota exceeded", "result": None}, RateLimited),
        (200, {"status": "0", "message": "NOTOK", "result": "Query Timeout occured"}, PassingError),
        (200, {"status": "0", "message": "timeout or server too busy", "result": []}, PassingError),
        (200, {"status": "0", "message": "NOTOK", "result": "Invalid API Key"}, RequestRefused),
        (200, "<html>Just a moment...</html>", MalformedAnswer),
        (200, "", MalformedAnswer),
        (200, [], MalformedAnswer),
        (200, None, MalformedAnswer),
        (200, "null", MalformedAnswer),
        (200, {}, MalformedAnswer),
        (200, {"status": "1", "message": "OK", "result": []}, MalformedAnswer),
        (200, {"status": "1", "message": "OK", "result": None}, MalformedAnswer),
        (200, {"status": "1", "message": "OK", "result": "text"}, MalformedAnswer),
        (200, {"status": "1", "message": "OK", "result": [None]}, MalformedAnswer),
        (200, {"status": "1", "message": "OK", "result": [{}]}, MalformedAnswer),
        (200, " " * 300_000 + "{}", MalformedAnswer),
    ],
)
def test_failures_are_typed(
    httpserver: HTTPServer, status: int, body: Any, error: type[SourceError]
) -> None:
    with pytest.raises(error):
        ask(httpserver, body, status)


@pytest.mark.parametrize(
    "timestamp", ["99999999999", "-5", -5, 0, "0", True, None, "", "abc", 1.5e9, [], "1" * 5000]
)
def test_impossible_timestamps_are_malformed(httpserver: HTTPServer, timestamp: object) -> None:
    with pytest.raises(MalformedAnswer):
        ask(httpserver, etherscan_answer(timestamp))


def test_answer_about_another_address_is_malformed(httpserver: HTTPServer) -> None:
    answer = etherscan_answer()
    answer["result"][0] |= {"from": "0x" + "1" * 40, "to": "0x" + "2" * 40}
    with pytest.raises(MalformedAnswer):
        ask(httpserver, answer)


def test_checksummed_address_in_the_answer_is_recognised(httpserver: HTTPServer) -> None:
    answer = etherscan_answer()
    answer["result"][0] |= {"from": "0x" + "1" * 40, "to": "0x" + "AB" * 20}
    assert ask(httpserver, answer).timestamp == 1_500_000_000


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "message", "result", "timeStamp", "from"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@settings(max_examples=300)
@given(JSON)
def test_any_json_gives_a_fact_or_a_typed_failure(answer: Any) -> None:
    client = EtherscanClient("http://127.0.0.1:9", KEY, 1, timeout=1.0)
    with contextlib.suppress(SourceError, NotFound):
        assert client._read(answer, ADDRESS).timestamp > 0
    client.close()


def test_key_is_in_no_error_and_no_repr(httpserver: HTTPServer) -> None:
    with pytest.raises(RequestRefused) as caught:
        ask(httpserver, {"status": "0", "message": "NOTOK", "result": f"Invalid API Key {KEY}"})
    assert "Invalid API Key ***" in str(caught.value)
    assert KEY not in repr(EtherscanClient("http://h", KEY, 1, timeout=1.0))
