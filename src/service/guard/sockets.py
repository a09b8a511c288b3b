"""A client's WebSocket, bridged to one of its own to the node, so that subscriptions pass."""

import asyncio
from contextlib import suppress

from aiohttp import ClientWebSocketResponse, WSMsgType

from src.service.guard.proxy import Message, Proxy
from src.service.http.middleware import Receive, Send

_MAX_WAITING = 64
_MAX_WAITING_BYTES = 8 * 1024 * 1024
_NODE_CLOSED = 1012  # the service restarts: connect again


class Bridge:
    """One client's connection.

    Calls are passed on in order, except that what sends a transaction waits for its screening, in
    order among its like, while other calls overtake it. While too much waits, nothing is read.

    Args:
        proxy: decides on messages.
        node: the WebSocket to the node.
        client: its name.
    """

    def __init__(self, proxy: Proxy, node: ClientWebSocketResponse, client: str) -> None:
        self._proxy = proxy
        self._node = node
        self._client = client
        self._order = asyncio.Lock()
        self._waiting: dict[asyncio.Task[None], int] = {}  # the bytes of each message

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
        while (event := await receive())["type"] == "websocket.receive":
            text, kind = event.get("text"), WSMsgType.BINARY
            body = event.get("bytes") or b""
            if text is not None:
                body, kind = text.encode(), WSMsgType.TEXT
            message = self._proxy.read(body, self._client)
            if message.is_screened:
                await self._wait_for_room(len(body))
                task = asyncio.create_task(self._answer_in_order(message, kind, send))
                self._waiting[task] = len(body)
                task.add_done_callback(self._waiting.pop)
            else:
                await self._answer(message, kind, send)

    async def _wait_for_room(self, size: int) -> None:
        while self._waiting and (
            len(self._waiting) >= _MAX_WAITING
            or sum(self._waiting.values()) + size > _MAX_WAITING_BYTES
        ):
            await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)

    async def _answer_in_order(self, message: Message, kind: WSMsgType, send: Send) -> None:
        async with self._order:
            await self._answer(message, kind, send)

    async def _answer(self, message: Message, kind: WSMsgType, send: Send) -> None:
        reply = await self._proxy.answer(message, self._client, {})
        with suppress(OSError):  # a connection is closed: then the other way ends as well
            if reply is None:
                await self._node.send_frame(message.body, kind)
            elif reply:
                await send({"type": "websocket.send", "text": reply})
