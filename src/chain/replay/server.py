"""A JSON-RPC 2.0 server over HTTP for the methods of a replayed node.

Each connection has its own thread and may stay open. Requests are untrusted: invalid ones get the
error that JSON-RPC 2.0 defines, and sizes are bounded.
"""

import inspect
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from src.chain.replay.chain import Unrecorded
from src.chain.replay.methods import INVALID_PARAMS, Method, RpcError

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 5 * 1024 * 1024
MAX_BATCH = 1_000

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603
NOT_RECORDED = -32001  # EIP-1474: resource not found

_IDLE_SECONDS = 60
_Answer = dict[str, Any]


class RpcServer(ThreadingHTTPServer):
    """Serves `methods`; `serve_forever` until `shutdown` is called from another thread.

    Args:
        address: host and port to listen on; port 0 for any free one.
        methods: by name; each takes a request's positional parameters and may raise `RpcError` or
            `Unrecorded`.

    Raises:
        OSError: the address is in use or not local.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], methods: Mapping[str, Method]) -> None:
        super().__init__(address, _Handler)
        self.methods = methods

    @property
    def url(self) -> str:
        """The URL of the server."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def answer(self, body: bytes) -> _Answer | list[_Answer] | None:
        """The response to a request body; None for notifications."""
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return _error(None, PARSE_ERROR, "the request is not JSON")
        if not isinstance(request, list):
            return self._answer_one(request)
        if not request:
            return _error(None, INVALID_REQUEST, "an empty batch")
        if len(request) > MAX_BATCH:
            return _error(
                None, INVALID_REQUEST, f"a batch may contain at most {MAX_BATCH} requests"
            )
        answers = [self._answer_one(one) for one in request]
        return [answer for answer in answers if answer is not None] or None

    def _answer_one(self, request: Any) -> _Answer | None:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, INVALID_REQUEST, "a request must be an object with a method")
        identity = request.get("id")
        if isinstance(identity, bool) or not isinstance(identity, str | int | float | None):
            return _error(None, INVALID_REQUEST, "an id must be a string, a number or null")
        answer = self._call(identity, request["method"], request.get("params", []))
        return answer if "id" in request else None

    def _call(self, identity: Any, name: str, params: Any) -> _Answer:
        method = self.methods.get(name)
        if method is None:
            known = ", ".join(sorted(self.methods))
            message = f"a recording does not support {name[:64]}, only {known}"
            return _error(identity, METHOD_NOT_FOUND, message)
        if not isinstance(params, list):
            return _error(identity, INVALID_PARAMS, "params must be a list")
        if not _accepts(method, params):
            return _error(identity, INVALID_PARAMS, f"{name} does not take these parameters")
        try:
            return {"jsonrpc": "2.0", "id": identity, "result": method(*params)}
        except RpcError as error:
            return _error(identity, error.code, error.message)
        except Unrecorded as error:
            return _error(identity, NOT_RECORDED, str(error))
        except Exception:  # the client gets an error, the server continues
            logger.exception("%s failed", name)
            return _error(identity, INTERNAL_ERROR, "internal error, see the log of the replay")

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Ignore the error of a client that disconnected."""
        logger.debug("connection lost", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "replay"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: RpcServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
            return
        if int(length) > MAX_REQUEST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        answer = self.server.answer(self.rfile.read(int(length)))
        if answer is None:
            self._send(HTTPStatus.NO_CONTENT, b"")
        else:
            self._send(HTTPStatus.OK, json.dumps(answer, separators=(",", ":")).encode())

    def do_GET(self) -> None:
        self._send(HTTPStatus.OK, b'{"status":"ok","protocol":"JSON-RPC 2.0 by POST"}')

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # the body stays unread
        self._send(status, json.dumps(_error(None, INVALID_REQUEST, status.phrase)).encode())

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        logger.debug(format, *args)


def _accepts(method: Method, params: list[Any]) -> bool:
    try:
        inspect.signature(method).bind(*params)
    except TypeError:
        return False
    return True


def _error(identity: Any, code: int, message: str) -> _Answer:
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}}
