"""What becomes of a message, whichever way it came: what is passed on, and what is answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from src.monitoring import screening_metrics
from src.service.guard import messages
from src.service.guard.gate import Gate
from src.service.guard.messages import Call, Malformed
from src.service.guard.methods import READING, SCREENED
from src.service.guard.upstream import Upstream, UpstreamError
from src.service.http.security import ClientLimits


@dataclass(slots=True)
class Message:
    """A client's message, with the replies that the node does not make."""

    body: bytes  # as it was received
    calls: tuple[Call, ...] = ()  # none if it could not be read
    is_batch: bool = False
    own: dict[int, str] = field(default_factory=dict)  # our replies, by the position of their calls

    @property
    def is_screened(self) -> bool:
        """Whether it has to wait for a screening."""
        return not self.own and any(call.method in SCREENED for call in self.calls)

    @property
    def forward(self) -> bytes | None:
        """What is passed on to the node; None for nothing."""
        if not self.own:
            return self.body
        left = self._left
        return f"[{','.join(call.text for call in left)}]".encode() if left else None

    @property
    def sends(self) -> bool:
        """Whether what is passed on may send a transaction, so that it must go out only once."""
        if not self.calls:
            return not self.is_batch
        return any(call.problem or call.method not in READING for call in self._left)

    def reply(self, answer: str | None) -> str:
        """The reply to the client; "" if none is due.

        Args:
            answer: the node's reply to what was passed on, or None.
        """
        if self.calls and all(call.id is None for call in self.calls):
            return ""
        return messages.merged(self.calls, self.own, answer) if self.is_batch else self.own[0]

    def failure(self, problem: str) -> str:
        """The reply if what was passed on got no answer."""
        code = messages.INTERNAL_ERROR
        if self.sends:
            problem = f"{problem}; it may have received the transaction"
        if not self.calls:
            return messages.error(None, code, problem)
        for position, call in enumerate(self.calls):
            self.own.setdefault(position, messages.error(call.id, code, problem))
        return self.reply(None)

    @property
    def _left(self) -> list[Call]:
        return [call for position, call in enumerate(self.calls) if position not in self.own]


class Proxy:
    """Reads and answers the messages of clients.

    Args:
        gate: decides on calls.
        limits: of calls, per client.
        upstream: the node.
    """

    def __init__(self, gate: Gate, limits: ClientLimits, upstream: Upstream) -> None:
        self._gate = gate
        self._limits = limits
        self._upstream = upstream

    def read(self, body: bytes, client: str) -> Message:
        """Read a message, which has our replies already if its calls are not to be judged."""
        try:
            request = messages.read_request(body)
        except Malformed as error:
            message = Message(body)
            if not self._limits.allows(client):
                return _limited(message)
            screening_metrics.guard_refused("malformed")
            if self._gate.rules.enforce:
                message.own[0] = messages.error(None, error.code, str(error))
            return message
        message = Message(body, request.calls, request.is_batch)
        if not all(self._limits.allows(client) for _ in request.calls or (None,)):
            return _limited(message)
        return message

    async def judge(self, message: Message, client: str) -> None:
        """Add our replies to calls that may not pass. Waits only for the screening of sends."""
        if message.own:
            return
        before: tuple[bytes, ...] = ()
        for position, call in enumerate(message.calls):
            refusal, sent = await self._gate.refusal(call, before, client)
            if refusal is not None:
                message.own[position] = refusal
            before += sent

    async def answer(self, message: Message, client: str, headers: Mapping[str, str]) -> str | None:
        """Judge a message; the reply, or None if all of it is to be passed on as it is.

        The rest of a batch goes by HTTP, where the node's reply is known to be its own.
        """
        await self.judge(message, client)
        if not message.own:
            return None
        if (forward := message.forward) is None:
            return message.reply(None)
        try:
            answer = await self._upstream.ask(forward, headers, again=not message.sends)
        except UpstreamError as error:
            return message.failure(str(error))
        return message.reply(answer)


def _limited(message: Message) -> Message:
    screening_metrics.guard_refused("limit")
    code, problem = messages.LIMIT_EXCEEDED, "too many requests"
    if not message.calls:
        message.is_batch = False
        message.own[0] = messages.error(None, code, problem)
    for position, call in enumerate(message.calls):
        message.own[position] = messages.error(call.id, code, problem)
    return message
