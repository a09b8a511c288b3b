"""A guard on a free port, with scripted screening, before a node that records what reaches it."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
import uvicorn
from aiohttp import WSMsgType, web

from src.chain.names.book import open_address_book
from src.detection.records import Action
from src.service.database.engine import Page
from src.service.database.screenings import ScreeningFilter, StoredScreening, list_screenings
from src.service.guard.app import GuardApp
from src.service.guard.clients import Clients
from src.service.guard.decisions import Decisions
from src.service.guard.gate import Gate, Rules
from src.service.guard.methods import AllowList
from src.service.guard.pages import Shown, pages
from src.service.guard.proxy import Proxy
from src.service.guard.upstream import Upstream
from src.service.http.middleware import RequestChecks
from src.service.http.security import ClientLimits
from src.service.screening.screener import Screening
from src.service.settings import ServiceSettings
from tests.service.databases import sqlite_database
from tests.support.waiting import PATIENCE, wait_until

RAW = "0x" + "ab" * 110
"""Long enough for a signed transaction."""

BAD = "0x" + "bad0" * 60
"""A transaction that `Script` blocks."""

ODD = "0x" + "0ddd" * 60
"""A transaction that `Script` cannot simulate, nor what is behind it."""


def screening(
    action: Action = Action.ALLOW, *, status: Any = "success", problem: str = "", number: int = 0
) -> Screening:
    return Screening(
        decision_id=f"{number:016x}",
        action=action,
        status=status,
        reasons=(f"reason for {action.name}",),
        sentence="",
        block=7,
        problem=problem,
        tx_hash=f"0x{number:064x}",
        sender="0x" + "11" * 20,
    )


@dataclass
class Script:
    """Screens by what the transactions contain; BAD is blocked, ODD is unknown."""

    default: Action = Action.ALLOW
    status: str = "success"
    problem: str = ""
    wait: threading.Event | None = None
    failure: Exception | None = None
    on_unknown: Action = Action.REVIEW
    seen: list[tuple[bytes, ...]] = field(default_factory=list)

    def screen(self, transactions: Sequence[bytes], before: Sequence[bytes] = ()) -> Screening:
        self.seen.append((*before, *transactions))
        if self.wait is not None:
            self.wait.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure
        if any(b"\x0d\xdd" in one for one in (*before, *transactions)):
            return self.unknown(transactions, "odd")
        bad = any(b"\xba\xd0" in one for one in transactions)
        return screening(
            Action.BLOCK if bad else self.default,
            status=self.status,
            problem=self.problem,
            number=len(self.seen),
        )

    def unknown(self, transactions: Sequence[bytes], problem: str) -> Screening:
        return screening(self.on_unknown, status="unknown", problem=problem, number=len(self.seen))

    @property
    def screened(self) -> set[str]:
        return {"0x" + raw.hex() for sent in self.seen for raw in sent}


@dataclass
class Node:
    """What the recording node got, and how it behaves."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answer: Callable[[bytes], web.Response] | None = None
    go: threading.Event = field(default_factory=threading.Event)
    sockets: int = 0
    answers_pings: bool = True

    def __post_init__(self) -> None:
        self.go.set()

    @property
    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for body in self.bodies:
            value = json.loads(body)
            found += value if isinstance(value, list) else [value]
        return found

    @property
    def methods(self) -> list[str]:
        return [call["method"] for call in self.calls]


@contextmanager
def node(answer: Callable[[bytes], web.Response] | None = None) -> Iterator[Node]:
    """A node over HTTP and WebSocket that answers each call with its method."""
    state = Node(answer=answer)
    ready = threading.Event()

    async def post(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        state.bodies.append(body)
        state.headers.append({name.lower(): value for name, value in request.headers.items()})
        while not state.go.is_set():
            await asyncio.sleep(0.01)
        return state.answer(body) if state.answer else json_reply(body)

    async def socket(request: web.Request) -> web.StreamResponse:
        opened = web.WebSocketResponse(max_msg_size=0, autoping=state.answers_pings)
        await opened.prepare(request)
        state.sockets += 1
        try:
            async for message in opened:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    body = message.data.encode() if isinstance(message.data, str) else message.data
                    state.bodies.append(body)
                    await opened.send_str(json_reply(body).text or "")
        finally:
            state.sockets -= 1
        return opened

    async def start() -> None:
        app = web.Application(client_max_size=2**30)
        app.add_routes([web.post("/{tail:.*}", post), web.get("/{tail:.*}", socket)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        state.url = f"http://127.0.0.1:{port}/secret-path-of-the-node"
        ready.set()
        try:
            while not stop.is_set():
                await asyncio.sleep(0.02)
        finally:
            await runner.cleanup()

    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(start()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield state
    finally:
        state.go.set()
        stop.set()
        thread.join(PATIENCE)


def json_reply(body: bytes) -> web.Response:
    value = json.loads(body)
    if isinstance(value, list):
        replies = [_reply(call) for call in value if "id" in call]
        return web.Response(text=json.dumps(replies), content_type="application/json")
    return web.Response(text=json.dumps(_reply(value)), content_type="application/json")


def _reply(call: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call.get("id"), "result": call["method"]}


@dataclass
class Guarded:
    """A running guard."""

    url: str
    decisions: Decisions
    script: Script

    @property
    def stored(self) -> list[StoredScreening]:
        """All decisions, newest first."""
        self.decisions.flush()
        with self.decisions.database.reading() as connection:
            return list_screenings(connection, ScreeningFilter(), Page(50))[0]

    def ask(self, body: Any, **options: Any) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(self.url, data=data, timeout=PATIENCE, **options)

    def call(self, method: str, *params: Any, identity: Any = 1) -> Any:
        body = {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}
        return self.ask(body).json()


@contextmanager
def guard(
    upstream: str,
    script: Script | None = None,
    *,
    enforce: bool = True,
    refuse_unknown: bool = True,
    hold_review: bool = False,
    seconds: float = PATIENCE,
    allow: Sequence[str] = (),
    settings: ServiceSettings | None = None,
    per_second: float = 1_000_000,
) -> Iterator[Guarded]:
    script, settings = script or Script(), settings or ServiceSettings()
    rules = Rules(
        enforce=enforce,
        refuse_unknown=refuse_unknown,
        hold_review=hold_review,
        seconds=seconds,
        allowed=AllowList(allow),
    )
    opened = Upstream(upstream)
    with ExitStack() as opening:
        decisions = Decisions(opening.enter_context(sqlite_database()), 1)
        gate = Gate(script, rules, decisions)
        opening.callback(gate.close)

        shown = Shown(decisions, rules, 1, opened, open_address_book(1))
        app = GuardApp(
            RequestChecks(pages(shown), settings),
            Proxy(gate, ClientLimits(per_second), opened),
            opened,
            Clients(settings),
            settings.max_body_bytes,
        )
        port = opening.enter_context(serving(app))
        yield Guarded(f"http://127.0.0.1:{port}", decisions, script)


@contextmanager
def serving(app: Any) -> Iterator[int]:
    """An ASGI application on a free port, as `service.guard.run` serves it."""
    config = uvicorn.Config(
        app,
        port=0,
        http="src.service.http.protocol:BoundedProtocol",
        ws="websockets-sansio",
        ws_max_size=ServiceSettings().max_body_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # a busy machine may take its time
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    assert server.started
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
