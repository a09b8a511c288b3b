"""A node and explorers of which every answer is an attack, in a process of their own.

Endless bodies, decompression bombs, valid answers of megabytes, errors that carry megabytes, other
answers' ids, and now and then the truth, so that no circuit breaker ends the attack.
"""

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from eth_abi.abi import encode
from werkzeug import Request, Response
from werkzeug.serving import make_server

from benchmarks.sources import FIRST_TRANSACTION, AnyTokenNode, KeepAlive, served
from tests.support.fake_chain import etherscan_answer

_LARGE = 500_000  # bytes; below the limit on a response of the node
_CHUNK = b" " * 65_536
_HONEST_SHARE = 0.2

_Answer = Callable[[Request, Any], Response]


@contextmanager
def hostile_sources() -> Iterator[dict[str, str]]:
    """Settings that name them: the node, an explorer and Ethplorer."""
    with served(_serve) as url:
        yield {
            "JSON_RPC_URL": f"{url}/node",
            "ETHERSCAN_URL": f"{url}/explorer",
            "ETHPLORER_URL": f"{url}/ethplorer",
            "ETHPLORER_API_KEY": "a-key",
        }


def _endless(_request: Request, _identity: Any) -> Response:
    def body() -> Iterator[bytes]:
        while True:
            yield _CHUNK

    return Response(body())


def _bomb(_request: Request, _identity: Any) -> Response:
    return Response(_BOMB, headers={"Content-Encoding": "gzip"})


def _long_text(_request: Request, identity: Any) -> Response:
    return _json({"jsonrpc": "2.0", "id": identity, "result": "0x" + "41" * (_LARGE // 2)})


def _long_names(_request: Request, identity: Any) -> Response:
    """Thirty tokens' metadata, if that is what was requested, with names of megabytes."""
    name = encode(["string"], ["N" * (_LARGE // 60)])
    entries = [(True, name)] * 90
    result = "0x" + encode(["(bool,bytes)[]"], [entries[:24]]).hex()
    return _json({"jsonrpc": "2.0", "id": identity, "result": result})


def _long_error(_request: Request, identity: Any) -> Response:
    error = {"code": -32000, "message": "m" * (_LARGE // 2), "data": ["d" * 1000] * 150}
    return _json({"jsonrpc": "2.0", "id": identity, "error": error, "message": "x" * 100_000})


def _error_status(_request: Request, _identity: Any) -> Response:
    return Response("e" * _LARGE, status=500, headers={"Retry-After": "0.05"})


def _another_answer(_request: Request, _identity: Any) -> Response:
    return _json(
        {"jsonrpc": "2.0", "id": 2, "status": "1", "result": [{"a": "b"}] * (_LARGE // 12)}
    )


def _not_json(_request: Request, _identity: Any) -> Response:
    return Response('{"result": [' + "[1], " * (_LARGE // 6))


_ATTACKS: tuple[_Answer, ...] = (
    _endless, _bomb, _long_text, _long_names, _long_error, _error_status, _another_answer,
    _not_json,
)  # fmt: skip
_BOMB = gzip.compress(b" " * (64 << 20))


def _json(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document))


def _serve(urls: Connection) -> None:
    node = AnyTokenNode(hostile=True)
    rng = random.Random(0)

    @Request.application
    def answer(request: Request) -> Response:
        body = request.get_json(silent=True)
        identity = body.get("id") if isinstance(body, dict) else None
        if rng.random() >= _HONEST_SHARE:
            return rng.choice(_ATTACKS)(request, identity)
        if request.path.startswith("/node"):
            return node.answer(request)
        if request.path.startswith("/explorer"):
            return Response(json.dumps(etherscan_answer(str(FIRST_TRANSACTION))))
        (address,) = re.findall("0x[0-9a-f]{40}", request.path) or [None]
        return _json({"address": address, "name": "N", "symbol": "S" * 9999, "decimals": "18"})

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=_Quiet)
    urls.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


class _Quiet(KeepAlive):
    def log_error(self, *_args: object) -> None:
        """Say nothing of clients that end an endless answer."""

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """Say nothing."""
