"""A transport that hands a fuzzer's bytes to the real HTTP clients as a server's answer."""

import io
from typing import Any

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from fuzz.data import Data

_STATUSES = (200,) * 88 + (204, 301, 400, 403, 404, 429, 500, 503)


class FuzzedServer(BaseAdapter):
    """Answers each request with what `data` and `template` give."""

    def __init__(self) -> None:
        super().__init__()
        self.data = Data(b"")
        self.template: Any = {}

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        """Answer without a network."""
        response = requests.Response()
        response.status_code = _STATUSES[self.data.byte() % len(_STATUSES)]
        response.request = request
        response.url = request.url or ""
        body = self.data.json_bytes(self.template)
        response.raw = HTTPResponse(
            body=io.BytesIO(body), status=response.status_code, preload_content=False
        )
        return response

    def close(self) -> None:
        """Nothing to close."""


def connect(client: Any, server: FuzzedServer) -> None:
    """Let a client of `src.chain` talk to `server` instead of the network."""
    client._http._session.mount("http://", server)
