"""A transaction that is not mined: unsigned, or with its signature checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from src.chain.errors import NotFound
from src.chain.quantities import as_bytes, as_int
from src.chain.transfers import normalise_address

MAX_DATA_BYTES: Final = 256 * 1024
"""Of a transaction; twice what nodes accept."""

_MAX_ENTRIES = 4_096  # of an access list, of its keys, of blobs and authorizations
_WORD = 2**256
_UINT64 = 2**64
_NUMBERS: Final = {
    "value": ("value", _WORD),
    "gas": ("gas", _UINT64),
    "nonce": ("nonce", _UINT64),
    "gas_price": ("gasPrice", _WORD),
    "max_fee_per_gas": ("maxFeePerGas", _WORD),
    "max_priority_fee_per_gas": ("maxPriorityFeePerGas", _WORD),
    "max_fee_per_blob_gas": ("maxFeePerBlobGas", _WORD),
}


class NotSimulated(NotFound):
    """What a transaction would do is unknown; the message says why, for people."""


class NonceGap(NotSimulated):
    """Earlier transactions of the sender are missing: nonces `expected` to `given` - 1."""

    def __init__(self, sender: str, expected: int, given: int) -> None:
        super().__init__(
            f"nonce {given} comes after {given - expected} transactions of the sender that are not "
            "mined yet"
        )
        self.sender = sender
        self.expected = expected
        self.given = given


@dataclass(frozen=True, slots=True)
class Authorization:
    """An account's permission that a contract's code runs in its name (EIP-7702)."""

    chain_id: int
    address: str
    nonce: int
    y_parity: int
    r: int
    s: int

    def as_rpc(self) -> dict[str, str]:
        """In JSON-RPC's form."""
        return {
            "chainId": hex(self.chain_id),
            "address": self.address,
            "nonce": hex(self.nonce),
            "yParity": hex(self.y_parity),
            "r": hex(self.r),
            "s": hex(self.s),
        }


@dataclass(frozen=True, slots=True)
class UnsignedCall:
    """A transaction without a signature. What is None is filled in before it is simulated."""

    sender: str  # who would send it, lowercase
    to: str | None = None  # lowercase; None creates a contract
    data: bytes = b""  # call data, or creation code
    value: int = 0  # wei
    gas: int | None = None  # limit; None for what a node estimates
    nonce: int | None = None  # None for the sender's next one
    # gas_price, max_fee_per_gas, max_priority_fee_per_gas: wei a unit of gas; all None for the
    # price that the node suggests.
    gas_price: int | None = None
    max_fee_per_gas: int | None = None
    max_priority_fee_per_gas: int | None = None
    # Addresses with their storage keys (EIP-2930).
    access_list: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # max_fee_per_blob_gas, blob_versioned_hashes: of a blob transaction (EIP-4844).
    max_fee_per_blob_gas: int | None = None
    blob_versioned_hashes: tuple[str, ...] = ()
    authorizations: tuple[Authorization, ...] = ()  # see `Authorization`

    @classmethod
    def from_rpc(cls, given: Mapping[str, Any]) -> Self:
        """Read a transaction object of JSON-RPC; unknown members are ignored.

        Raises:
            ValueError: the message names the member that is invalid.
        """
        sender = normalise_address(given.get("from"))
        if sender is None:
            raise ValueError("from must be an address")
        to = given.get("to")
        if to is not None and normalise_address(to) is None:
            raise ValueError("to must be an address, or be left out to create a contract")
        numbers = {name: _number(given, *spec) for name, spec in _NUMBERS.items()}
        value = numbers.pop("value") or 0
        data, also = given.get("input"), given.get("data")
        if None not in (data, also) and data != also:
            raise ValueError("input and data differ; give one of them")
        return cls(
            sender=sender,
            to=None if to is None else normalise_address(to),
            data=_bytes("input", data if data is not None else also or "0x", MAX_DATA_BYTES),
            access_list=tuple(_access(one) for one in _list(given, "accessList")),
            blob_versioned_hashes=tuple(
                "0x" + _bytes("blobVersionedHashes", one, 32).hex()
                for one in _list(given, "blobVersionedHashes")
            ),
            authorizations=tuple(_authorization(one) for one in _list(given, "authorizationList")),
            value=value,
            **numbers,
        )

    @property
    def max_price(self) -> int | None:
        """The most that it pays for a unit of gas, in wei; None if it does not say."""
        return self.gas_price if self.max_fee_per_gas is None else self.max_fee_per_gas

    def price_at(self, base_fee: int) -> int | None:
        """What it pays for a unit of gas in a block with this base fee, in wei."""
        if self.max_fee_per_gas is None:
            return self.gas_price
        return min(self.max_fee_per_gas, base_fee + (self.max_priority_fee_per_gas or 0))

    def as_rpc(self) -> dict[str, Any]:
        """A transaction object of JSON-RPC, without what is None."""
        call: dict[str, Any] = {"from": self.sender, "input": "0x" + self.data.hex()}
        if self.to is not None:
            call["to"] = self.to
        for name, (key, _) in _NUMBERS.items():
            number = getattr(self, name)
            if number is not None:
                call[key] = hex(number)
        if self.access_list:
            call["accessList"] = [
                {"address": address, "storageKeys": list(keys)}
                for address, keys in self.access_list
            ]
        if self.blob_versioned_hashes:
            call["blobVersionedHashes"] = list(self.blob_versioned_hashes)
        if self.authorizations:
            call["authorizationList"] = [one.as_rpc() for one in self.authorizations]
        return call


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A raw transaction whose signature has been checked."""

    tx_hash: str  # lowercase; without the blobs that may come with it
    # That it was signed for; None for one before EIP-155, valid on every chain.
    chain_id: int | None
    call: UnsignedCall  # what it does; its sender is who signed it


def _number(given: Mapping[str, Any], key: str, bound: int) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    number = as_int(value)
    if number is None or number >= bound:
        raise ValueError(f"{key} must be a number below 2**{bound.bit_length() - 1}")
    return number


def _bytes(key: str, value: Any, limit: int) -> bytes:
    content = as_bytes(value)
    if content is None or len(content) > limit:
        raise ValueError(f"{key} must be 0x and the hex digits of at most {limit} bytes")
    return content


def _list(given: Mapping[str, Any], key: str) -> list[Any]:
    value = given.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
        raise ValueError(f"{key} must be a list of at most {_MAX_ENTRIES}")
    return value


def _access(entry: Any) -> tuple[str, tuple[str, ...]]:
    address = normalise_address(entry.get("address")) if isinstance(entry, dict) else None
    if address is None:
        raise ValueError("accessList must be a list of addresses with storageKeys")
    keys = [_bytes("storageKeys", key, 32) for key in _list(entry, "storageKeys")]
    return address, tuple("0x" + key.hex().zfill(64) for key in keys)


def _authorization(entry: Any) -> Authorization:
    address = normalise_address(entry.get("address")) if isinstance(entry, dict) else None
    if address is None:
        raise ValueError("authorizationList must be a list of signed authorizations")
    keys = ("chainId", "nonce", "yParity", "r", "s")
    numbers = [_number(entry, key, _WORD) for key in keys]
    if None in numbers:
        raise ValueError(f"an authorization needs {', '.join(keys)}")
    chain_id, nonce, y_parity, r, s = (number or 0 for number in numbers)
    return Authorization(chain_id, address, nonce, y_parity, r, s)
