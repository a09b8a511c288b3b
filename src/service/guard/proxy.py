"""What becomes of a message, whichever way it came: what is passed on, and what is answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from src.monitoring import screening_metrics
from src.service.guard import messages
from src.service.guard.gate import Gate
from src.service.guard.messages import Call, Malformed, Request
from src.service.guard.methods import READING
from src.service.http.security import ClientLimits


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a message."""

    forward: bytes | None  # what is passed on to the node; None for nothing
    # Our replies, by the position of their calls.
    own: Mapping[int, str] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()  # of the message; none if it could not be read
    is_batch: bool = False  # whether it is a batch
    # Whether what is passed on may send a transaction, so that it must go out only once.
    sends: bool = True

    def reply(self, answer: str | None) -> str:
        """The reply to the client; "" if none is due.

        Args:
            answer: the node's reply to what was passed on, or None.
        """
        if self.is_batch:
            return messages.merged(self.calls, self.own, answer) if self._is_due else ""
        return self.own.get(0, "") if self._is_due else ""

    def failure(self, problem: str) -> str:
        """The reply if what was passed on got no answer."""
        code = messages.INTERNAL_ERROR
        if self.sends:
            problem = f"{problem}; it may have received the transaction"
        failed = {
            position: messages.error(call, code, problem)
            for position, call in enumerate(self.calls)
            if position not in self.own
        }
        if not self.calls:
            return messages.error_of(None, code, problem)
        if self.is_batch:
            return messages.merged(self.calls, {**self.own, **failed}, None)
        return failed.get(0, "")

    @property
    def _is_due(self) -> bool:
        return not self.calls or any(call.id is not None for call in self.calls)


class Proxy:
    """Plans what becomes of the messages of clients.

    Args:
        gate: decides on calls.
        limits: of calls, per client.
    """

    def __init__(self, gate: Gate, limits: ClientLimits) -> None:
        self._gate = gate
        self._limits = limits

    async def plan(self, body: bytes, client: str) -> Plan:
        """Decide on a message; takes as long as screening takes."""
        request = self.read(body, client)
        return request if isinstance(request, Plan) else await self.judge(body, request, client)

    def read(self, body: bytes, client: str) -> Request | Plan:
        """The message, or what becomes of it if it is not to be judged."""
        try:
            request = messages.read_request(body)
        except Malformed as error:
            if not self._limits.allows(client):
                return self._limited(())
            screening_metrics.guard_refused("malformed")
            if not self._gate.rules.enforce:
                return Plan(body)
            return Plan(None, {0: messages.error_of(None, error.code, str(error))})
        if not all(self._limits.allows(client) for _ in request.calls or (None,)):
            return self._limited(request.calls, is_batch=request.is_batch)
        return request

    async def judge(self, body: bytes, request: Request, client: str) -> Plan:
        """What becomes of a message that was read. Waits only for the screening of sends."""
        own: dict[int, str] = {}
        before: tuple[bytes, ...] = ()
        sends = False
        for position, call in enumerate(request.calls):
            refusal, sent = await self._gate.refusal(call, before, client)
            if refusal is not None:
                own[position] = refusal
            before += sent
            sends = sends or bool(call.problem) or call.method not in READING
        left = [call for position, call in enumerate(request.calls) if position not in own]
        if not own:
            forward: bytes | None = body
        elif left:
            forward = f"[{','.join(call.text for call in left)}]".encode()
        else:
            forward = None
        return Plan(forward, own, request.calls, request.is_batch, sends)

    def _limited(self, calls: tuple[Call, ...], *, is_batch: bool = False) -> Plan:
        screening_metrics.guard_refused("limit")
        if not calls:
            text = messages.error_of(None, messages.LIMIT_EXCEEDED, "too many requests")
            return Plan(None, {0: text})
        own = {
            position: messages.error(call, messages.LIMIT_EXCEEDED, "too many requests")
            for position, call in enumerate(calls)
        }
        return Plan(None, own, calls, is_batch)
