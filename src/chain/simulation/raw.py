"""Raw signed transactions of every type: read by rlp, with the signer recovered by eth-keys.

eth-account reads them too, twice over and at three times the cost.
"""

from typing import Any, Final

import rlp
from eth_keys.datatypes import Signature
from eth_utils.crypto import keccak

from src.chain.simulation.call import (
    MAX_DATA_BYTES,
    Authorization,
    NotSimulated,
    SignedTransaction,
    UnsignedCall,
)

MAX_RAW_BYTES: Final = 2 * 1024 * 1024
"""More than a blob transaction with all its blobs."""

_LEGACY, _BLOBS, _DELEGATION = 0, 3, 4
_PROTECTED = 35  # EIP-155: v is 35 or 36, plus twice the chain id
_UNPROTECTED = (27, 28)
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_UINT64, _WORD = 2**64, 2**256
_FEES = ("max_priority_fee_per_gas", "max_fee_per_gas")
_CALL = ("gas", "to", "value", "data")
_FIELDS: Final = {
    _LEGACY: ("nonce", "gas_price", *_CALL),
    1: ("chain_id", "nonce", "gas_price", *_CALL, "access_list"),
    2: ("chain_id", "nonce", *_FEES, *_CALL, "access_list"),
    _BLOBS: (
        "chain_id", "nonce", *_FEES, *_CALL, "access_list", "max_fee_per_blob_gas",
        "blob_versioned_hashes",
    ),
    _DELEGATION: ("chain_id", "nonce", *_FEES, *_CALL, "access_list", "authorizations"),
}  # fmt: skip
"""Of each type, before the signature: EIP-2930, 1559, 4844 and 7702."""


def decode_raw(raw: bytes) -> SignedTransaction:
    """Decode a raw transaction and recover who signed it.

    Args:
        raw: legacy, or of type 1 to 4. The blobs of type 3 may come with it; they are not checked.

    Raises:
        NotSimulated: no node would accept it.
    """
    if not raw:
        raise NotSimulated("the raw transaction is empty")
    if len(raw) > MAX_RAW_BYTES:
        raise NotSimulated(f"the raw transaction is larger than {MAX_RAW_BYTES} bytes")
    kind = raw[0] if raw[0] < 0x80 else _LEGACY
    if kind not in _FIELDS or (kind == _LEGACY and raw[0] < 0xC0):
        raise NotSimulated(f"a transaction of the unknown type {raw[0]}")
    try:
        return _signed(raw, kind)
    except Exception as error:  # noqa: BLE001  of hostile bytes the libraries raise a dozen kinds
        raise NotSimulated(f"not a signed transaction ({type(error).__name__})") from None


def _signed(raw: bytes, kind: int) -> SignedTransaction:
    items = rlp.decode(raw if kind == _LEGACY else raw[1:])
    if kind == _BLOBS and isinstance(items[0], list):  # with its blobs; signed is the rest
        items = items[0]
        raw = raw[:1] + rlp.encode(items)
    if len(raw) > MAX_DATA_BYTES:
        raise ValueError
    names = _FIELDS[kind]
    values = dict(zip(names, items[:-3], strict=True))
    chain_id = _number(values.pop("chain_id")) if kind else None
    v, r, s = map(_number, items[-3:])
    if kind:
        signed = raw[:1] + rlp.encode(items[:-3])
    elif v in _UNPROTECTED:
        signed, v = rlp.encode(items[:-3]), v - _UNPROTECTED[0]
    else:
        chain_id, v = divmod(v - _PROTECTED, 2)
        signed = rlp.encode([*items[:-3], chain_id, b"", b""])  # fails for a negative one
    if s > _HALF_ORDER:
        raise ValueError
    key = Signature(vrs=(v, r, s)).recover_public_key_from_msg_hash(keccak(signed))
    call = UnsignedCall(
        sender=key.to_address(), **{name: _READ.get(name, _number)(values[name]) for name in values}
    )
    _check(call, kind)
    return SignedTransaction("0x" + keccak(raw).hex(), chain_id, call)


def _check(call: UnsignedCall, kind: int) -> None:
    """What every node checks. Raises ValueError."""
    numbers = (call.nonce, call.gas)
    if any((one or 0) >= _UINT64 for one in numbers):
        raise ValueError
    lists = {_BLOBS: call.blob_versioned_hashes, _DELEGATION: call.authorizations}
    if kind in lists and (call.to is None or not lists[kind]):
        raise ValueError


def _number(item: Any) -> int:
    if not isinstance(item, bytes) or item[:1] == b"\0" or len(item) > 32:
        raise ValueError
    return int.from_bytes(item)


def _hex(item: Any, size: int) -> str:
    if not isinstance(item, bytes) or len(item) != size:
        raise ValueError
    return "0x" + item.hex()


def _data(item: Any) -> bytes:
    if not isinstance(item, bytes):
        raise ValueError
    return item


def _list(item: Any) -> list[Any]:
    if not isinstance(item, list):
        raise ValueError
    return item


def _access(item: Any) -> tuple[str, tuple[str, ...]]:
    address, keys = _list(item)
    return _hex(address, 20), tuple(_hex(key, 32) for key in _list(keys))


def _authorization(item: Any) -> Authorization:
    chain_id, address, *rest = _list(item)
    return Authorization(_number(chain_id), _hex(address, 20), *map(_number, rest))


_READ: Final[dict[str, Any]] = {
    "to": lambda item: None if item == b"" else _hex(item, 20),
    "data": _data,
    "access_list": lambda item: tuple(map(_access, _list(item))),
    "blob_versioned_hashes": lambda item: tuple(_hex(one, 32) for one in _list(item)),
    "authorizations": lambda item: tuple(map(_authorization, _list(item))),
}
"""How fields are read that are no numbers."""
