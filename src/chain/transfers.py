"""ERC-20 and native transfers: the records and their decoding from raw logs.

Every entry point (live handling, replay, recordings, training) uses this decoder.

An ERC-20 transfer is a log with topic0 = keccak256("Transfer(address,address,uint256)") whose
topics and 32-byte words of data together are four, at least one of them data. The standard indexes
both addresses; some old tokens index one or none, and the arguments are then in the data, in order.
ERC-721 shares the topic but indexes the token id, so it has four topics and no data. Anything else
is not a transfer: logs are untrusted, so malformed ones are skipped without an error.

With EIP-7708, every transfer of the native currency leaves a log that is byte for byte an ERC-20
transfer, emitted by `SYSTEM_ADDRESS`, where no contract can be deployed. A simulation
(`eth_simulateV1` with `traceTransfers`) adds the same log with `SIMULATION_ADDRESS`. They are
decoded as native transfers, never as transfers of a token.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from src.chain.quantities import as_int

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
UPGRADE_TOPICS = frozenset(
    {
        "0xbc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b",
        "0x1cf3b03a6cf19fa2baba4df148e9dcabedea7f8a5c07840e207e5c089be95d3e",
    }
)
"""`Upgraded(address)` and `BeaconUpgraded(address)` of ERC-1967: a proxy's new implementation."""
ZERO_ADDRESS = "0x" + "0" * 40

APPROVAL_TOPIC = "0x8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925"
"""keccak256("Approval(address,address,uint256)")"""

SYSTEM_ADDRESS: Final = "0xfffffffffffffffffffffffffffffffffffffffe"
SIMULATION_ADDRESS: Final = "0x" + "e" * 40
NATIVE_EMITTERS: Final = frozenset({SYSTEM_ADDRESS, SIMULATION_ADDRESS})
"""Emitters of logs about native transfers: no token has one of these addresses."""

_ADDRESS, _WORD = 42, 66  # characters, `0x` included
_LENGTHS = ((_ADDRESS, _WORD + 128), (_ADDRESS, _WORD, _WORD + 64), (_ADDRESS, _WORD, _WORD, _WORD))
"""Of the emitter, the indexed addresses and the data, by the number of indexed addresses."""

_PREFIXES = ("0x", "0X")
_LOG_INDEX = attrgetter("log_index")


class RawLog(Protocol):
    """The fields of a log that decoding reads; `forta_agent.receipt.Log` has them."""

    address: Any
    topics: Any
    data: Any


class Transfer(NamedTuple):
    """One ERC-20 transfer. A tuple, since creating it is a large part of the decoding time."""

    token: str  # contract address, lowercase `0x` + 40 hex digits
    sender: str  # account debited, same form; the zero address for a mint
    recipient: str  # account credited, same form; the zero address for a burn
    amount: int  # raw token units, 0 <= amount < 2**256
    log_index: int  # position of the log in its block (or, if unknown, in its transaction)


class NativeTransfer(NamedTuple):
    """One transfer of the chain's native currency."""

    sender: str  # account debited, lowercase
    recipient: str  # account credited, likewise
    amount: int  # wei, 0 <= amount < 2**256
    log_index: int  # position of its log; -1 for a transaction's own value without a log


class Approval(NamedTuple):
    """One ERC-20 approval: `spender` may move so much of `owner`'s tokens. Addresses lowercase."""

    token: str
    owner: str
    spender: str
    amount: int


class DecodedLogs(NamedTuple):
    """What a transaction's logs move, each in log order."""

    transfers: list[Transfer]  # of ERC-20 tokens
    # Of the native currency; each once, although a simulation may log it twice.
    native: list[NativeTransfer]


def decode_transfer(address: Any, topics: Any, data: Any, log_index: int) -> Transfer | None:
    """Decode one raw log, or return None if it is not a well-formed ERC-20 transfer.

    The upper 12 bytes of an address topic are ignored, as in the EVM and in indexers.
    """
    event = decode_event(address, topics, data, log_index)
    return None if event is None or event.token in NATIVE_EMITTERS else event


def decode_event(address: Any, topics: Any, data: Any, log_index: int) -> Transfer | None:
    """Decode one raw log of the form of an ERC-20 transfer, native transfers included.

    The `token` of a native transfer is one of `NATIVE_EMITTERS`; `separate` tells them apart.
    """
    if not isinstance(topics, (list, tuple)) or not 1 <= len(topics) <= 3:
        return None
    topic0, *indexed = topics
    if topic0 != TRANSFER_TOPIC and (
        not isinstance(topic0, str) or topic0.lower() != TRANSFER_TOPIC
    ):
        return None
    digits = ""
    for text, length in zip((address, *indexed, data), _LENGTHS[len(indexed)], strict=True):
        if not isinstance(text, str) or len(text) != length or text[:2] not in _PREFIXES:
            return None
        digits += text[2:]
    words = _bytes(digits)
    if words is None:
        return None
    digits = words.hex()
    return Transfer(
        "0x" + digits[:40],
        "0x" + digits[64:104],
        "0x" + digits[128:168],
        int.from_bytes(words[84:]),
        log_index,
    )


def _is_removed(log: RawLog) -> bool:
    """Whether a reorganisation has orphaned it."""
    return getattr(log, "removed", False) is True


def decode_transfers(logs: Iterable[RawLog] | None) -> list[Transfer]:
    """The ERC-20 transfers among a transaction's logs; see `decode_logs`."""
    return decode_logs(logs).transfers


def decode_logs(logs: Iterable[RawLog] | None) -> DecodedLogs:
    """Decode the ERC-20 and native transfers among a transaction's logs.

    Logs flagged `removed` (orphaned by a reorganisation) are skipped. Never raises on the content
    of a log.
    """
    events: list[Transfer] = []
    for position, log in enumerate(logs or ()):
        topics = getattr(log, "topics", None)
        if not topics or _is_removed(log):
            continue
        index = as_int(getattr(log, "log_index", None))
        event = decode_event(
            getattr(log, "address", None),
            topics,
            getattr(log, "data", None),
            position if index is None else index,
        )
        if event is not None:
            events.append(event)
    return separate(events)


def decode_approvals(logs: Iterable[RawLog] | None) -> list[Approval]:
    """The ERC-20 approvals among a transaction's logs, in the order given. Never raises."""
    found = (
        decode_approval(
            getattr(log, "address", None), getattr(log, "topics", None), getattr(log, "data", None)
        )
        for log in logs or ()
        if not _is_removed(log)
    )
    return [approval for approval in found if approval is not None]


def decode_approval(address: Any, topics: Any, data: Any) -> Approval | None:
    """Decode one raw log, or return None if it is not a well-formed ERC-20 approval."""
    if not isinstance(topics, (list, tuple)) or len(topics) != 3:
        return None
    if not isinstance(topics[0], str) or topics[0].lower() != APPROVAL_TOPIC:
        return None
    # It has the form of a transfer.
    event = decode_event(address, [TRANSFER_TOPIC, *topics[1:]], data, 0)
    return None if event is None else Approval(*event[:4])


def separate(events: Iterable[Transfer]) -> DecodedLogs:
    """ERC-20 transfers and native ones, from events of both kinds in any order.

    A node that emits native logs and simulates reports a native transfer with both emitters: of
    equal transfers, as many count as the emitter with more of them has logged.
    """
    transfers: list[Transfer] = []
    logged: list[Transfer] = []
    for event in events:
        (logged if event.token in NATIVE_EMITTERS else transfers).append(event)
    transfers.sort(key=_LOG_INDEX)
    if not logged:  # as nearly always before the fork
        return DecodedLogs(transfers, [])
    # The protocol's own logs first: those of a simulation then only fill what is missing.
    logged.sort(key=lambda event: (event.token != SYSTEM_ADDRESS, event.log_index))
    counted = Counter(event[1:4] for event in logged if event.token == SYSTEM_ADDRESS)
    native = []
    for event in logged:
        if event.token != SYSTEM_ADDRESS and counted[event[1:4]] > 0:
            counted[event[1:4]] -= 1
        else:
            native.append(NativeTransfer(*event[1:]))
    native.sort(key=_LOG_INDEX)
    return DecodedLogs(transfers, native)


def upgraded_contracts(logs: Iterable[RawLog] | None) -> list[str]:
    """Proxies that state in these logs that they have a new implementation; lowercase addresses."""
    upgraded = []
    for log in logs or ():
        topics = getattr(log, "topics", None)
        if isinstance(topics, (list, tuple)) and topics and isinstance(topics[0], str):
            if topics[0].lower() not in UPGRADE_TOPICS or _is_removed(log):
                continue
            address = normalise_address(getattr(log, "address", None))
            if address is not None:
                upgraded.append(address)
    return upgraded


def transfer_of_event(event: Mapping[str, Any], position: int) -> Transfer:
    """The transfer in an event that web3 or forta_agent has decoded.

    Args:
        event: `{"address": ..., "args": {"from": ..., "to": ..., "value": ...}}`, with `logIndex`
            if known. Arguments with other names are read by position.
        position: its index among the events, for those without `logIndex`.

    Raises:
        ValueError: it is not an ERC-20 transfer.
    """
    arguments = event.get("args")
    if not isinstance(arguments, Mapping):
        raise ValueError("a transfer event has no args")
    names = ("from", "to", "value")
    named = all(name in arguments for name in names)
    values = [arguments[name] for name in names] if named else list(arguments.values())
    token = normalise_address(event.get("address"))
    if token is None or len(values) != len(names):
        raise ValueError("a transfer event has an address and the args from, to and value")
    payer, payee, amount = normalise_address(values[0]), normalise_address(values[1]), values[2]
    if payer is None or payee is None:
        raise ValueError("from and to of a transfer event must be addresses")
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < 2**256:
        raise ValueError("the value of a transfer event must be a uint256")
    index = as_int(event.get("logIndex"))
    return Transfer(token, payer, payee, amount, position if index is None else index)


def normalise_address(value: Any) -> str | None:
    """Return the address as lowercase `0x` + 40 hex digits, or None if it is invalid."""
    if not isinstance(value, str) or len(value) != _ADDRESS or value[:2] not in _PREFIXES:
        return None
    return None if _bytes(value[2:]) is None else value.lower()


def _bytes(digits: str) -> bytes | None:
    """The bytes that these hex digits encode; None if they are invalid."""
    try:
        # Unlike `int(_, 16)` it takes no underscores, signs and digits of other scripts. It skips
        # blanks, but then too few bytes are left.
        content = bytes.fromhex(digits)
    except ValueError:
        return None
    return content if 2 * len(content) == len(digits) else None
