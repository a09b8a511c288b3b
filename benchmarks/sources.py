"""A node and an explorer on loopback, in a process of their own, and the bot set to use them.

Apart, so that neither their work nor their memory counts as the bot's.
"""

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

import src.agent
from benchmarks.hostile import hostile_text
from benchmarks.traffic import TIMESTAMP
from src.chain.networks import network
from src.settings import SETTINGS
from tests.support.fake_chain import FakeNode, block_timestamp, etherscan_answer, usual_token

_FIRST_BLOCK = 5_144_169
FIRST_TRANSACTION = block_timestamp(_FIRST_BLOCK)
"""When, by the explorer and the node, everybody's first transaction was, Unix seconds."""

_START_SECONDS = 300  # on a machine with much else to do
_FEEDS = frozenset({network(1).native_feed, network(1).bitcoin_feed})
_FEED_VIEWS = {
    keccak(text="decimals()")[:4]: encode(["uint8"], [8]),
    keccak(text="latestRoundData()")[:4]: encode(
        ["uint80", "int256", "uint256", "uint256", "uint80"],
        [1, 2_000 * 10**8, TIMESTAMP, TIMESTAMP, 1],
    ),
}
_HANGING_SECONDS = 6.0  # longer than a request's time-out


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the sources behave.

    Attributes:
        delay_seconds: before every answer.
        failing_share: share of the answers that are an HTTP error or no JSON.
        hanging_share: share of the answers that take longer than any deadline.
        outage_every_seconds: from the beginning of one spell without any answer but HTTP 503 to
            the next; None for no such spells.
        outage_seconds: how long such a spell lasts.
        hostile: whether tokens have names that their deployers chose to do harm.
    """

    delay_seconds: float = 0.0
    failing_share: float = 0.0
    hanging_share: float = 0.0
    outage_every_seconds: float | None = None
    outage_seconds: float = 0.0
    hostile: bool = False


@contextmanager
def sources(conduct: Conduct = Conduct()) -> Iterator[dict[str, str]]:
    """Settings that name a running node and a running explorer."""
    with served(_serve, conduct) as url:
        yield {"JSON_RPC_URL": f"{url}/node", "ETHERSCAN_URL": f"{url}/explorer"}


@contextmanager
def served(serve: Callable[..., None], *arguments: object) -> Iterator[str]:
    """The URL of a server in a process of its own.

    Args:
        serve: runs it; its last argument is a connection, to which it sends the URL.
        arguments: its first ones.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(*arguments, sender), daemon=True)
    process.start()
    try:
        if not receiver.poll(_START_SECONDS):
            raise RuntimeError("the local sources did not start")
        yield str(receiver.recv())
    finally:
        process.terminate()
        process.join()


@contextmanager
def running_bot(settings: Mapping[str, str]) -> Iterator[src.agent.Bot]:
    """The bot in this process with these settings and no others, initialised."""
    kept = {name: os.environ.pop(name) for name in SETTINGS if name in os.environ}
    os.environ.update(settings)
    src.agent.initialize()
    bot = src.agent.BOT
    if bot is None:
        raise RuntimeError("the bot is not initialised")
    try:
        yield bot
    finally:
        bot.close()
        src.agent.BOT = None
        for name in settings:
            del os.environ[name]
        os.environ.update(kept)


class AnyTokenNode(FakeNode):
    """A node that knows every token and price, and every account's first transaction."""

    def __init__(self, hostile: bool) -> None:
        super().__init__(calls=_Forgetful())
        self._hostile = hostile

    def eth_getTransactionCount(self, _address: str, block: str) -> str:  # noqa: N802
        """0 before the first transaction, 1 after it."""
        return hex(int(int(block, 16) >= _FIRST_BLOCK))

    def _view(self, token: str, data: bytes) -> bytes:
        if token in _FEEDS:
            return _FEED_VIEWS[data]
        rng = random.Random(token)
        name = hostile_text(rng) if self._hostile else f"Token {token[:8]}"
        symbol = hostile_text(rng) if self._hostile else f"T{token[2:8]}"
        decimals = rng.choice((0, 6, 18, 77, 255)) if self._hostile else 18
        self.tokens = {token: usual_token(name, symbol, decimals)}
        return super()._view(token, data)


class _Forgetful(list[str]):
    """A list that stays empty: a node that remembers its calls would grow for ever."""

    def append(self, _item: str) -> None:
        """Forget the item."""


class KeepAlive(WSGIRequestHandler):
    """HTTP/1.1, without a log."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_args: object) -> None:
        """Say nothing."""


def _serve(conduct: Conduct, urls: Connection) -> None:
    started = time.monotonic()
    node = AnyTokenNode(conduct.hostile)
    rng = random.Random(0)

    @Request.application
    def answer(request: Request) -> Response:
        time.sleep(conduct.delay_seconds)
        if _is_outage(conduct, time.monotonic() - started):
            return Response("down", status=503)
        lot = rng.random()
        if lot < conduct.failing_share:
            return Response("<html>", status=rng.choice((200, 429, 500, 503)))
        if lot < conduct.failing_share + conduct.hanging_share:
            time.sleep(_HANGING_SECONDS)
        if request.path.startswith("/node"):
            return node.answer(request)
        return Response(json.dumps(etherscan_answer(str(FIRST_TRANSACTION))))

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=KeepAlive)
    urls.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


def _is_outage(conduct: Conduct, seconds: float) -> bool:
    """Whether the sources are down so long after they began; the first spell comes at an end."""
    every = conduct.outage_every_seconds
    return every is not None and seconds % every >= every - conduct.outage_seconds
