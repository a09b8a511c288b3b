"""Sources to configure look-ups with, on real servers."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from werkzeug import Request, Response

from src.chain.clients.rate_limit import Rate
from src.chain.facts import TokenInfo
from src.chain.lookups.build import build_lookups
from src.chain.lookups.lookups import Lookups
from tests.support import raw_server
from tests.support.fake_chain import (
    FakeNode,
    serve,
    usual_token,
)
from tests.support.waiting import FOR_EVER

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"

TOKENS = [f"0x{number:040x}" for number in range(0xA0, 0xA5)]

SENDER = "0x" + "5e" * 20

BLOCK = 20_000_000

INFO = TokenInfo("Some Token", "SOME", 18)

KEY = "planted-secret-key"

PLENTY = (Rate(1000, 0.001),)


class World:
    """Sources to configure look-ups with; every part can be replaced."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.node = FakeNode(
            tokens={token: usual_token() for token in TOKENS},
            sent_in_blocks={SENDER: [1_000_000]},
        )
        self.node_url = stack.enter_context(serve(self.node.answer))

    def serve(self, handler: Callable[[Request], Response]) -> str:
        return self.stack.enter_context(serve(handler))

    def serve_text(self, text: str, status: int = 200) -> str:
        return self.serve(lambda request: Response(text, status))

    def serve_raw(self, behaviour: raw_server.Behaviour) -> str:
        return self.stack.enter_context(raw_server.raw_server(behaviour))

    def lookups(self, **settings: Any) -> Lookups:
        defaults: dict[str, Any] = {
            "json_rpc_url": self.node_url,
            "deadline_seconds": FOR_EVER,
            "timeout_seconds": FOR_EVER,
            "search_seconds": FOR_EVER,
            "etherscan_rates": PLENTY,
            "ethplorer_rates": PLENTY,
            "node_requests_per_second": 10_000,
        }
        lookups = build_lookups(**(defaults | settings))
        self.stack.callback(lookups.close)
        return lookups


def ethplorer_answer(request: Request) -> Response:
    token = request.path.rsplit("/", 1)[-1]
    answer = {"address": token, "name": "Some Token", "symbol": "SOME", "decimals": "18"}
    return Response(json.dumps(answer))
