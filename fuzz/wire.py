"""A transport that hands a fuzzer's bytes to the real HTTP clients as a server's answer."""

import io
from typing import Any

from urllib3 import HTTPResponse

from fuzz.data import Data

_STATUSES = (200,) * 88 + (204, 301, 400, 403, 404, 429, 500, 503)


class FuzzedServer:
    """Answers each request with what `data` and `template` give."""

    def __init__(self) -> None:
        self.data = Data(b"")
        self.template: Any = {}

    def urlopen(self, *_: Any, **__: Any) -> HTTPResponse:
        """Answer without a network, in place of a pool of urllib3."""
        status = _STATUSES[self.data.byte() % len(_STATUSES)]
        body = io.BytesIO(self.data.json_bytes(self.template))
        return HTTPResponse(body=body, status=status, preload_content=False)


def connect(client: Any, server: FuzzedServer) -> None:
    """Let a client of `src.chain` talk to `server` instead of the network."""
    client._http._pool = server
