"""The screening proxy: whatever a client sends, no unscreened transaction reaches the node."""

import asyncio
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fuzz.data import Data
from fuzz.oracles import expect
from fuzz.target import Bench, Target

_GOOD: Final = "0x02" + "60" * 60
_BAD: Final = "0x02" + "bad0" * 30
_RAW: Final = re.compile("0x[0-9a-fA-F]{66,}")
_SENDING: Final = "sendrawtransaction"
_METHODS: Final = (
    "eth_sendRawTransaction", "eth_chainId", "eth_sendRaw\\u0054ransaction", "eth_sendBundle",
    "ETH_SENDRAWTRANSACTION", "eth_sendRawTransactionSync", "eth_sendTransaction",
)  # fmt: skip
_KEYS: Final = (
    "method",
    "Method",
    "METHOD",
    "m\\u0065thod",
    "params",
    "Params",
    "param\u017f",
    "id",
)


def lenient_calls(body: bytes) -> Iterator[tuple[str, str]]:
    """Method and parameters of each call that some parser could find in a body.

    Parsers that take the first or the last of two equal keys, and that ignore the case of keys.
    """
    text = body.decode("utf-8", "replace")
    for hook in (_all_pairs, dict):
        try:
            value = json.loads(text, object_pairs_hook=hook, parse_int=str)
        except (ValueError, RecursionError):
            continue
        for call in value if isinstance(value, list) else [value]:
            if not isinstance(call, dict):
                continue
            folded: dict[str, list[Any]] = {}
            for key, one in call.items():
                folded.setdefault(key.casefold(), []).extend(one if hook is _all_pairs else [one])
            for method in folded.get("method", []):
                for params in folded.get("params", [None]):
                    yield str(method), json.dumps(params)


def _all_pairs(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _guard(bench: Bench) -> Callable[[bytes], None]:
    from src.detection.records import Action  # noqa: PLC0415
    from src.service.database.engine import Database  # noqa: PLC0415
    from src.service.guard.decisions import Decisions  # noqa: PLC0415
    from src.service.guard.gate import Gate, Rules  # noqa: PLC0415
    from src.service.guard.methods import AllowList  # noqa: PLC0415
    from src.service.guard.proxy import Proxy  # noqa: PLC0415
    from src.service.guard.upstream import Upstream  # noqa: PLC0415
    from src.service.http.security import ClientLimits  # noqa: PLC0415
    from src.service.screening.screener import Screening  # noqa: PLC0415

    screened: set[str] = set()

    class Script:
        def screen(self, transactions: Sequence[bytes], _before: Sequence[bytes] = ()) -> Screening:
            screened.update("0x" + one.hex() for one in transactions)
            bad = any(b"\xba\xd0" in one for one in transactions)
            action = Action.BLOCK if bad else Action.ALLOW
            return Screening("id", action, "success", (), "", 1, "", None, None)

        def unknown(self, _transactions: Sequence[bytes], problem: str) -> Screening:
            return Screening("id", Action.REVIEW, "unknown", (), "", None, problem, None, None)

    rules = Rules(
        enforce=True, refuse_unknown=True, hold_review=False, seconds=60.0, allowed=AllowList()
    )
    # Nothing is written, so the file is never made.
    decisions = Decisions(Database(f"sqlite:///{Path(tempfile.gettempdir(), 'unused.db')}"), 1)
    screener: Any = Script()
    gate = Gate(screener, rules, decisions)
    proxy = Proxy(gate, ClientLimits(1e9), Upstream("http://node.invalid"))
    loop = asyncio.new_event_loop()

    def one(content: bytes) -> None:
        screened.clear()
        data = Data(content)
        body = _body(data)
        message = proxy.read(body, "client")
        loop.run_until_complete(proxy.judge(message, "client"))
        for reply in message.own.values():
            json.loads(reply, parse_int=str)
        if message.forward is None:
            bench.reached["refused"] += 1
            json.loads(message.reply(None) or "null", parse_int=str)
            return
        bench.reached["passed on"] += 1
        for method, params in lenient_calls(message.forward):
            if _SENDING in method.casefold() or "bundle" in method.casefold():
                sent = {raw.lower() for raw in _RAW.findall(params)}
                expect(sent <= screened and _BAD not in sent, "leak", f"{message.forward!r}")
        if message.own:
            answer = data.json_bytes([{"jsonrpc": "2.0", "id": 1, "result": "0x1"}])
            reply = message.reply(answer.decode("utf-8", "replace"))
            json.loads(reply or "null", parse_int=str)

    return one


def _body(data: Data) -> bytes:
    """A call or a batch, written out by hand so that keys may repeat."""
    if data.one_in(16):
        return data.json_bytes({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"})
    calls = [_call(data) for _ in range(1 + data.byte() % 3)]
    text = f"[{','.join(calls)}]" if data.one_in(2) or len(calls) > 1 else calls[0]
    body = text.encode("utf-8", "surrogatepass")
    return data.damaged(body) if data.one_in(8) else body


def _call(data: Data) -> str:
    members = [f'"method":"{data.pick(_METHODS)}"', f'"params":{_params(data)}', '"id":1']
    if data.one_in(8):
        members.pop(data.byte() % 3)
    for _ in range(data.byte() % 4 if data.one_in(4) else 0):
        key = data.pick(_KEYS)
        if "m" in key.lower() and "thod" in key.lower():
            value = f'"{data.pick(_METHODS)}"'
        elif key == "id":
            value = json.dumps(data.json_value(1))
        else:
            value = _params(data)
        members.append(f'"{key}":{value}')
    return "{" + ",".join(members) + "}"


def _params(data: Data) -> str:
    raw = data.pick((_GOOD, _BAD, _BAD[2:], _BAD.upper(), " " + _BAD))
    forms = (
        f'["{raw}"]',
        f'[{{"tx":"{raw}"}}]',
        f'[{{"txs":["{_GOOD}","{raw}"]}}]',
        f'{{"raw":"{raw}","raw":"{_GOOD}"}}',
        f'["{_GOOD}",["{raw}"]]',
        json.dumps([list(bytes.fromhex(_BAD[2:]))]),
    )
    return json.dumps(data.json_value(2)) if data.one_in(16) else data.pick(forms)


TARGETS = (
    Target(
        "guard",
        "messages to the screening proxy: no transaction passes unscreened, replies are JSON",
        _guard,
        4,
    ),
)
