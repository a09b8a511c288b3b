"""Ethplorer's answers become token metadata or a typed failure."""

import json
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from src.chain.clients.ethplorer import EthplorerClient
from src.chain.errors import (
    MalformedAnswer,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from src.chain.facts import TokenInfo
from tests.support.waiting import PATIENCE

TOKEN = "0x" + "cd" * 20
KEY = "PLANTEDETHPLORERKEY"


def ask(server: HTTPServer, body: Any, status: int = 200) -> TokenInfo:
    text = body if isinstance(body, str) else json.dumps(body)
    server.expect_request(f"/getTokenInfo/{TOKEN}", query_string={"apiKey": KEY}).respond_with_data(
        text, status=status
    )
    return EthplorerClient(server.url_for(""), KEY, timeout=PATIENCE).token_info(TOKEN)


def answer(**changes: object) -> dict[str, object]:
    return {"address": TOKEN, "name": "Wrapped BTC", "symbol": "WBTC", "decimals": "8", **changes}


@pytest.mark.parametrize("decimals", ["8", 8])
def test_metadata_is_read(httpserver: HTTPServer, decimals: object) -> None:
    assert ask(httpserver, answer(decimals=decimals)) == TokenInfo("Wrapped BTC", "WBTC", 8)


@pytest.mark.parametrize(
    "decimals", [-1, "-1", 10**9, "1000000000", 256, "abc", "", True, None, 8.5, [], "٨", "1_0"]
)
def test_impossible_decimals_are_malformed(httpserver: HTTPServer, decimals: object) -> None:
    with pytest.raises(MalformedAnswer):
        ask(httpserver, answer(decimals=decimals))


def test_missing_decimals_are_malformed(httpserver: HTTPServer) -> None:
    with pytest.raises(MalformedAnswer):
        ask(httpserver, {"name": "x", "symbol": "X"})


def test_hostile_names_are_made_harmless(httpserver: HTTPServer) -> None:
    hostile = answer(name="-!*forta_finding*!-:" + "A" * 100_000, symbol="\u202eUS\nDC\x00")
    assert ask(httpserver, hostile) == TokenInfo("A" * 64, "US DC", 8)


@pytest.mark.parametrize("symbol", ["", None, 7, "\u200b", ["WBTC"]])
def test_answer_without_a_symbol_is_malformed(httpserver: HTTPServer, symbol: object) -> None:
    with pytest.raises(MalformedAnswer):
        ask(httpserver, answer(symbol=symbol))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, "", RateLimited),
        (502, "", SourceUnavailable),
        (401, "", RequestRefused),
        (200, {"error": {"code": 1, "message": "Invalid API key"}}, RequestRefused),
        (200, {"error": {"code": 3, "message": "Request limit exceeded"}}, RateLimited),
        (200, {"error": {"code": 136, "message": "Too many requests"}}, RateLimited),
        (200, {"error": "text"}, RequestRefused),
        (200, "<html></html>", MalformedAnswer),
        (200, "[]", MalformedAnswer),
        (200, "null", MalformedAnswer),
        (200, {}, MalformedAnswer),
    ],
)
def test_failures_are_typed(
    httpserver: HTTPServer, status: int, body: Any, error: type[SourceError]
) -> None:
    with pytest.raises(error) as caught:
        ask(httpserver, body, status)
    assert KEY not in str(caught.value)


def test_answer_about_another_token_is_malformed(httpserver: HTTPServer) -> None:
    with pytest.raises(MalformedAnswer):
        ask(httpserver, answer(address="0x" + "1" * 40))
