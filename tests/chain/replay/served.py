"""Serve a folder and ask it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import requests

from src.chain.recording.format import Recording
from src.chain.replay.chain import RecordedChain
from src.chain.replay.methods import Method, ReplayMethods
from src.chain.replay.server import RpcServer
from tests.support.waiting import PATIENCE

UNKNOWN_HASH = "0x" + "99" * 32

NOT_RECORDED = -32001


def serve(folder: Path) -> AbstractContextManager[str]:
    return serve_methods(ReplayMethods(RecordedChain(Recording(folder))).methods)


@contextmanager
def serve_methods(methods: Mapping[str, Method]) -> Iterator[str]:
    with RpcServer(("127.0.0.1", 0), methods) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def post(url: str, body: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return requests.post(url, data=data, timeout=PATIENCE).json()


def ask(url: str, method: str, *params: Any) -> Any:
    answer = post(url, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return answer["result"] if "result" in answer else answer["error"]["code"]
