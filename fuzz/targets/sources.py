"""Responses of explorers and nodes, through the real clients: a possible fact or a typed error."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from typing import Any

from fuzz.data import Data
from fuzz.oracles import check_first_transaction, check_text, check_token_info, expect
from fuzz.target import Bench, Target
from fuzz.wire import FuzzedServer, connect

_URL = "http://source.invalid/api/PLANTED-PATH-KEY?k=PLANTED-QUERY-KEY"
_KEY = "PLANTED-API-KEY"
_SECRETS = (_KEY, "PLANTED-PATH-KEY", "PLANTED-QUERY-KEY")
_ADDRESS = "0x" + "a1" * 20
_TRANSACTION = {"timeStamp": "1500000000", "from": _ADDRESS, "to": "0x" + "b2" * 20, "hash": "0x"}


def _expect_failure(error: Exception, bench: Bench) -> None:
    message = str(error)
    expect(not any(secret in message for secret in _SECRETS), "leak", message)
    expect(message.isprintable() and len(message) < 600, "leak", message)
    bench.reached[type(error).__name__] += 1


def _asking(
    bench: Bench,
    client: Any,
    template: Any,
    ask: Callable[[Data], None],
    server: FuzzedServer | None = None,
) -> Callable[[bytes], None]:
    from src.chain.errors import NotFound, SourceError  # noqa: PLC0415

    server = server or FuzzedServer()
    connect(client, server)

    def one(content: bytes) -> None:
        server.data = Data(content)
        server.template = template(server.data)
        try:
            ask(server.data)
        except (SourceError, NotFound) as error:
            _expect_failure(error, bench)
        else:
            bench.reached["facts"] += 1

    return one


def _etherscan(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.clients.etherscan import EtherscanClient  # noqa: PLC0415

    client = EtherscanClient(_URL, _KEY, 1, timeout=5)

    def template(data: Data) -> Any:
        words = data.pick(("OK", "No transactions found", "NOTOK", "Max rate limit " + _KEY))
        return {"status": str(data.byte() % 2), "message": words, "result": [_TRANSACTION]}

    def ask(_: Data) -> None:
        check_first_transaction(client.first_transaction(_ADDRESS), time.time())

    return _asking(bench, client, template, ask)


def _ethplorer(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.clients.ethplorer import EthplorerClient  # noqa: PLC0415

    client = EthplorerClient(_URL, _KEY, timeout=5)

    def template(data: Data) -> Any:
        if data.one_in(4):
            return {
                "error": {"code": 1, "message": data.pick(("Invalid API key " + _KEY, "limit"))}
            }
        return {"address": _ADDRESS, "name": data.text(), "symbol": data.text(), "decimals": "18"}

    def ask(_: Data) -> None:
        info = client.token_info(_ADDRESS)
        check_token_info(info)
        expect(bool(info.symbol), "mismatch", "an empty symbol as an answer")

    return _asking(bench, client, template, ask)


def _node(bench: Bench) -> Callable[[bytes], None]:
    from eth_abi.abi import encode  # noqa: PLC0415

    from src.chain.clients.rate_limit import RateLimit  # noqa: PLC0415
    from src.chain.clients.rpc import JsonRpcClient  # noqa: PLC0415
    from src.chain.clients.rpc_errors import MAX_RETRY_AFTER_SECONDS  # noqa: PLC0415
    from src.chain.erc20 import token_info_alone, token_infos  # noqa: PLC0415
    from src.chain.errors import Failure  # noqa: PLC0415
    from src.chain.lookups.first_transaction import first_outgoing_transaction  # noqa: PLC0415

    class Unpaused(RateLimit):
        """Does not wait for as long as the node asks for."""

        def pause(self, seconds: float) -> None:
            expect(0 <= seconds <= MAX_RETRY_AFTER_SECONDS, "mismatch", f"a pause of {seconds} s")

    client = JsonRpcClient(_URL, timeout=5, max_bytes=4 * 2**20, rate_limit=Unpaused())

    def word(data: Data) -> bytes:
        return (data.uint() % 2**256).to_bytes(32)

    def template(data: Data) -> Any:
        if data.one_in(8):
            wish = {"try_again_in": data.text(), "rate": {"backoff_seconds": data.text()}}
            code = data.pick((3, -32005, -32000, "x"))
            error = {"code": code, "message": data.text(), "data": data.pick((wish, [], None))}
            return {"jsonrpc": "2.0", "id": 1, "error": error}
        name = encode(["bytes"], [data.text().encode("utf-8", "replace")])
        returned = [(not data.one_in(8), data.pick((word(data), name, b""))) for _ in range(3)]
        together = encode(["(bool,bytes)[]"], [returned])
        result: Any = data.pick(
            ("0x" + together.hex(), "0x" + name.hex(), "0x" + word(data).hex(), hex(data.uint()),
             {"timestamp": hex(data.uint())}, data.damaged(together).hex())
        )  # fmt: skip
        return {"jsonrpc": "2.0", "id": 1, "result": result}

    def ask(data: Data) -> None:
        match data.byte() % 3:
            case 0:
                for info in token_infos(client, [_ADDRESS]).values():
                    if isinstance(info, Failure):
                        _expect_failure(info.error(), bench)
                    else:
                        check_token_info(info)
            case 1:
                check_token_info(token_info_alone(client, _ADDRESS))
            case _:
                first = first_outgoing_transaction(client, _ADDRESS, 20_000_000)
                check_first_transaction(first, time.time())

    return _asking(bench, client, template, ask)


def _owner(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.clients import http, owner_store  # noqa: PLC0415

    token = {"token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib3QifQ." + _KEY}
    document = {"ETHERSCAN_API_KEY": _KEY, "apiKeys": {"ETHPLORER_API_KEY": _KEY}, "other": [1]}
    server = FuzzedServer()

    class Client(http.HttpClient):
        """The real client; its two servers are the fuzzer's."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._session.mount("http://", server)
            server.template = document if server.template is token else token

    setattr(owner_store, "HttpClient", Client)  # noqa: B010 - the name is not owner_store's own

    def ask(_: Data) -> None:
        server.template = document
        secrets = owner_store._fetch(_URL, _URL, 5.0)
        expect(isinstance(secrets, dict), "mismatch", "no object")

    class _Holder:
        _http = Client("fuzz", _URL, timeout=5, max_bytes=1)

    return _asking(bench, _Holder, lambda _: document, ask, server)


def _forta(bench: Bench) -> Callable[[bytes], None]:
    from datetime import date  # noqa: PLC0415

    from src.monitoring.forta_alerts.api import FortaApi  # noqa: PLC0415
    from src.monitoring.forta_alerts.statistics import alerts_table, daily_statistics  # noqa: PLC0415

    api = FortaApi(_KEY, url=_URL, page_size=2, sleep=lambda _: None)
    alert = {
        "hash": "0xab", "alertId": "NORMAL-TOKEN-TRANSFERS-TX", "severity": "INFO",
        "createdAt": "2024-05-30T12:00:00Z", "metadata": {"anomaly_score": "0.4"},
        "source": {
            "transactionHash": "0x" + "ab" * 32,
            "block": {"number": 1, "timestamp": "2024-05-30T12:00:00Z", "chainId": 1},
        },
    }  # fmt: skip
    page = {"hasNextPage": False, "endCursor": {"blockNumber": 1, "alertId": "0xab"}}

    def template(data: Data) -> Any:
        if data.one_in(8):
            return {"errors": [{"message": data.text() + _KEY, "extensions": {"code": "X"}}]}
        return {"data": {"alerts": {"pageInfo": page, "alerts": [alert, alert]}}}

    def ask(_: Data) -> None:
        table = alerts_table(api.alerts_of_day("0x" + "ab" * 32, date(2024, 5, 30)))
        expect(not table["score"].isin([math.inf, -math.inf]).any(), "non-finite", "a score")
        try:
            figures = daily_statistics(table, 0.01)
        except ValueError as error:
            expect("no alerts" in str(error), "crash", error)
            return
        json.dumps(dataclasses.asdict(figures), allow_nan=False)

    return _asking(bench, api, template, ask)


def _addresses(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.names.labels import AddressListError, parse_text  # noqa: PLC0415
    from src.chain.transfers import normalise_address  # noqa: PLC0415

    listed = [_ADDRESS, "0x" + "B2" * 20]
    forms: tuple[Any, ...] = (
        listed,
        [{"address": listed[0], "label": "Exploiter"}, {"address": listed[1], "comment": "x"}],
        dict.fromkeys(listed, "Exploiter"),
    )

    def one(content: bytes) -> None:
        data = Data(content)
        if data.one_in(2):
            lines = [f"{data.pick(listed)},{data.text()}" for _ in range(data.byte() % 5)]
            written = data.damaged("\n".join(("address,label", *lines)).encode("utf-8", "replace"))
        else:
            written = data.json_bytes(data.pick(forms))
        try:
            labels = parse_text(written.decode("utf-8-sig", "replace"))
        except AddressListError as error:
            expect(str(error).isprintable() and len(str(error)) < 200, "leak", repr(str(error)))
            bench.reached["refused"] += 1
            return
        for address, label in labels.items():
            expect(normalise_address(address) == address, "mismatch", address)
            check_text(label, 80)
        bench.reached["read"] += 1

    return one


TARGETS = (
    Target(
        "etherscan",
        "any explorer response: a possible time or a typed error",
        _etherscan,
        0.8,
    ),
    Target(
        "ethplorer",
        "any token response: sanitised metadata or a typed error",
        _ethplorer,
        0.8,
    ),
    Target(
        "node", "any JSON-RPC response, ABI included: a possible fact or a typed error", _node, 0.8
    ),
    Target(
        "owner",
        "responses of Forta's token provider and owner store: a document or a typed error",
        _owner,
        0.3,
    ),
    Target(
        "forta",
        "responses of the Forta API: a table of alerts with scores in [0, 1], or a typed error",
        _forta,
        0.3,
    ),
    Target(
        "addresses",
        "lists of addresses, JSON and CSV: addresses with sanitised labels, or an error",
        _addresses,
        1,
    ),
)
