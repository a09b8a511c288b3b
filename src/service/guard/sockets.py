"""A client's WebSocket, bridged to one of its own to the node, so that subscriptions pass."""

import asyncio
from contextlib import suppress

from aiohttp import ClientWebSocketResponse, WSMsgType

from src.service.guard import messages
from src.service.guard.methods import SCREENED
from src.service.guard.proxy import Plan, Proxy
from src.service.guard.upstream import Upstream, UpstreamError
from src.service.http.guard import Message, Receive, Send

_MAX_WAITING = 64
_NODE_CLOSED = 1012  # the service restarts: connect again


class Bridge:
    """One client's connection.

    Calls are passed on in order, except that what sends a transaction waits for its screening, in
    order among its like, while other calls overtake it.

    Args:
        proxy: decides on messages.
        upstream: the node over HTTP.
        node: the WebSocket to the node.
        client: its name.
    """

    def __init__(
        self, proxy: Proxy, upstream: Upstream, node: ClientWebSocketResponse, client: str
    ) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._node = node
        self._client = client
        self._order = asyncio.Lock()
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self, receive: Receive, send: Send) -> None:
        """Carry messages both ways until either side closes."""
        ways = {
            asyncio.create_task(self._from_client(receive, send)),
            asyncio.create_task(self._from_node(send)),
        }
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for task in (*ways, *self._waiting):
                task.cancel()
            await asyncio.gather(*ways, *self._waiting, return_exceptions=True)

    async def _from_node(self, send: Send) -> None:
        async for message in self._node:
            if message.type == WSMsgType.TEXT:
                await send({"type": "websocket.send", "text": message.data})
            elif message.type == WSMsgType.BINARY:
                await send({"type": "websocket.send", "bytes": message.data})
        await send({"type": "websocket.close", "code": _NODE_CLOSED})

    async def _from_client(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            text, raw = message.get("text"), message.get("bytes")
            body = text.encode("utf-8", "surrogatepass") if text is not None else raw or b""
            request = self._proxy.read(body, self._client)
            if isinstance(request, Plan):
                await self._carry_out(request, message, send)
            elif any(call.method in SCREENED for call in request.calls):
                if len(self._waiting) >= _MAX_WAITING:
                    await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
                self._start(self._screened(body, request, message, send))
            else:
                plan = await self._proxy.judge(body, request, self._client)
                await self._carry_out(plan, message, send)

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _screened(
        self, body: bytes, request: messages.Request, message: Message, send: Send
    ) -> None:
        async with self._order:
            plan = await self._proxy.judge(body, request, self._client)
            await self._carry_out(plan, message, send)

    async def _carry_out(self, plan: Plan, message: Message, send: Send) -> None:
        if plan.forward is not None and not plan.own:
            with suppress(ConnectionError):  # then the other way ends as well
                if message.get("text") is not None:
                    await self._node.send_str(message["text"])
                else:
                    await self._node.send_bytes(plan.forward)
            return
        reply = plan.reply(None) if plan.forward is None else await self._merged(plan, plan.forward)
        if reply:
            await send({"type": "websocket.send", "text": reply})

    async def _merged(self, plan: Plan, forward: bytes) -> str:
        """The rest of a batch goes by HTTP, where the node's reply is known to be its own."""
        try:
            return plan.reply(await self._upstream.ask(forward, {}, again=not plan.sends))
        except UpstreamError as error:
            return plan.failure(str(error))
