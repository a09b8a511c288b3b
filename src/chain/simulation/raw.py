"""Raw signed transactions of every type, decoded by eth-account.

The library's classes are imported on use: they take a second, and commands answer `--help` at once.
"""

from typing import Any, Final

import rlp
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

_BLOBS = 3
_LAST_TYPE = 4
_LEGACY_FIELDS = 9
_PROTECTED = 35  # EIP-155: v is 35 or 36, plus twice the chain id
_UNPROTECTED = (27, 28)
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_UINT64, _WORD = 2**64, 2**256


def decode_raw(raw: bytes) -> SignedTransaction:
    """Decode a raw transaction and recover who signed it.

    Args:
        raw: legacy, or of type 1 to 4 (EIP-2930, 1559, 4844, 7702). The blobs of type 3 may come
            with it; they are not checked.

    Raises:
        NotSimulated: no node would accept it.
    """
    if not raw:
        raise NotSimulated("the raw transaction is empty")
    if len(raw) > MAX_RAW_BYTES:
        raise NotSimulated(f"the raw transaction is larger than {MAX_RAW_BYTES} bytes")
    kind = raw[0] if raw[0] < 0x80 else 0
    if kind > _LAST_TYPE or (kind == 0 and raw[0] < 0xC0):
        raise NotSimulated(f"a transaction of the unknown type {raw[0]}")
    try:
        raw = _without_blobs(raw) if kind == _BLOBS else raw
        fields = _legacy(raw) if kind == 0 else _typed(raw)
        return _signed(raw, fields)
    except NotSimulated:
        raise
    except Exception as error:  # noqa: BLE001  of hostile bytes the libraries raise a dozen kinds
        raise NotSimulated(f"not a signed transaction ({type(error).__name__})") from None


def _without_blobs(raw: bytes) -> bytes:
    """A blob transaction as in a block; the hash and the signature are of this form."""
    payload = rlp.decode(raw[1:])
    return raw[:1] + rlp.encode(payload[0]) if isinstance(payload[0], list) else raw


def _typed(raw: bytes) -> dict[str, Any]:
    from eth_account.typed_transactions.typed_transaction import (  # noqa: PLC0415
        TypedTransaction,
    )
    from hexbytes import HexBytes  # noqa: PLC0415

    return dict(TypedTransaction.from_bytes(HexBytes(raw)).as_dict())


def _legacy(raw: bytes) -> dict[str, Any]:
    items = rlp.decode(raw)
    if len(items) != _LEGACY_FIELDS:
        raise ValueError
    number = rlp.sedes.big_endian_int.deserialize
    v = number(items[6])
    if v not in _UNPROTECTED and v < _PROTECTED:
        raise ValueError
    return {
        "nonce": number(items[0]),
        "gasPrice": number(items[1]),
        "gas": number(items[2]),
        "to": items[3],
        "value": number(items[4]),
        "data": items[5],
        "chainId": None if v in _UNPROTECTED else (v - _PROTECTED) // 2,
        "s": number(items[8]),
    }


def _signed(raw: bytes, fields: dict[str, Any]) -> SignedTransaction:
    from eth_account import Account  # noqa: PLC0415

    to, data = bytes(fields["to"]), bytes(fields["data"])
    if len(to) not in (0, 20) or len(data) > MAX_DATA_BYTES or fields["s"] > _HALF_ORDER:
        raise ValueError
    if not all(0 <= fields[name] < _UINT64 for name in ("nonce", "gas")):
        raise ValueError
    if any((fields.get(name) or 0) >= _WORD for name in ("value", *_PRICES)):
        raise ValueError
    call = UnsignedCall(
        sender=Account.recover_transaction(raw).lower(),
        to="0x" + to.hex() if to else None,
        data=data,
        value=fields["value"],
        gas=fields["gas"],
        nonce=fields["nonce"],
        access_list=tuple(
            (_hex(one["address"]), tuple(map(_key, one["storageKeys"])))
            for one in fields.get("accessList", ())
        ),
        blob_versioned_hashes=tuple(map(_hex, fields.get("blobVersionedHashes", ()))),
        authorizations=tuple(
            Authorization(
                one["chainId"], _hex(one["address"]), one["nonce"], one["yParity"],
                one["r"], one["s"],
            )
            for one in fields.get("authorizationList", ())
        ),
        **{own: fields.get(name) for name, own in _PRICES.items()},
    )  # fmt: skip
    return SignedTransaction("0x" + keccak(raw).hex(), fields["chainId"], call)


_PRICES: Final = {
    "gasPrice": "gas_price",
    "maxFeePerGas": "max_fee_per_gas",
    "maxPriorityFeePerGas": "max_priority_fee_per_gas",
    "maxFeePerBlobGas": "max_fee_per_blob_gas",
}


def _hex(value: Any) -> str:
    return value.lower() if isinstance(value, str) else "0x" + bytes(value).hex()


def _key(value: Any) -> str:
    return f"0x{value:064x}" if isinstance(value, int) else _hex(value)
