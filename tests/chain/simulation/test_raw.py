"""Raw transactions: every type is read and its signer recovered; nothing else passes."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import rlp
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from src.chain.simulation.call import MAX_DATA_BYTES, NotSimulated
from src.chain.simulation.raw import MAX_RAW_BYTES, decode_raw

KEY = "0x" + "4c" * 32
SIGNER = Account.from_key(KEY).address.lower()
OTHER = Account.from_key("0x" + "5d" * 32)
PLAIN = {"to": "0x" + "11" * 20, "value": 7, "nonce": 3, "gas": 30_000, "data": b"\x01\x02"}
FEES = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}
ACCESS = [{"address": "0x" + "22" * 20, "storageKeys": ["0x" + "00" * 31 + "05"]}]
BLOB = "0x01" + "ab" * 31
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def signed(**changes: Any) -> Any:
    return Account.sign_transaction({**PLAIN, "chainId": 1, **changes}, KEY)


def raw_of(**changes: Any) -> bytes:
    return bytes(signed(**changes).raw_transaction)


TYPES = {
    "legacy": {"gasPrice": 9},
    "2930": {"gasPrice": 9, "type": 1, "accessList": ACCESS},
    "1559": {**FEES, "accessList": ACCESS},
    "4844": {**FEES, "type": 3, "maxFeePerBlobGas": 5, "blobVersionedHashes": [BLOB]},
}


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_is_read_with_its_signer(kind: str) -> None:
    made = signed(**TYPES[kind])
    found = decode_raw(bytes(made.raw_transaction))
    assert found.tx_hash == "0x" + bytes(made.hash).hex()
    assert found.chain_id == 1
    call = found.call
    assert (call.sender, call.to, call.value) == (SIGNER, PLAIN["to"], 7)
    assert (call.nonce, call.gas, call.data) == (3, 30_000, b"\x01\x02")
    assert call.max_price == (9 if "gasPrice" in TYPES[kind] else 10**10)
    has_list = "accessList" in TYPES[kind]
    assert call.access_list == (
        ((ACCESS[0]["address"], tuple(ACCESS[0]["storageKeys"])),) * has_list
    )
    assert call.blob_versioned_hashes == ((BLOB,) if kind == "4844" else ())


def test_a_delegation_is_read_with_its_authorizations() -> None:
    granted = OTHER.sign_authorization({"chainId": 1, "address": "0x" + "33" * 20, "nonce": 4})
    (found,) = decode_raw(raw_of(**FEES, type=4, authorizationList=[granted])).call.authorizations
    assert (found.chain_id, found.address, found.nonce) == (1, "0x" + "33" * 20, 4)
    assert found.s == granted.s


def test_blobs_that_come_along_are_left_out() -> None:
    alone = raw_of(**TYPES["4844"])
    with_blobs = alone[:1] + rlp.encode([rlp.decode(alone[1:]), b"\x01", [b"\0" * 131_072], [], []])
    assert decode_raw(with_blobs) == decode_raw(alone)


def test_a_creation_and_a_transaction_of_no_chain_are_read() -> None:
    assert decode_raw(raw_of(to="", **FEES)).call.to is None
    old = Account.sign_transaction({**PLAIN, "gasPrice": 9}, KEY)
    assert decode_raw(bytes(old.raw_transaction)).chain_id is None


def test_the_second_signature_of_the_same_transaction_is_refused() -> None:
    """Whoever has (r, s) can make (r, -s), another hash for the same transfer."""
    fields = rlp.decode(raw_of(gasPrice=9))
    s = int.from_bytes(fields[8])
    v = int.from_bytes(fields[6])
    fields[6:9] = [bytes([75 - v]), fields[7], (ORDER - s).to_bytes(32)]
    with pytest.raises(NotSimulated):
        decode_raw(rlp.encode(fields))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\0", b"\x02", b"\x05" + b"\xc0", b"\x7e\xc0", b"\x80", b"\xc0", b"\xf8",
        b"\x03\xc0", b"\x02" + b"\xc1" * 100_000, b"\x03" + b"\xc1" * 100_000,
        b"\xf8" * (MAX_RAW_BYTES + 1),
    ],
)  # fmt: skip
def test_what_no_node_would_accept_is_refused(raw: bytes) -> None:
    with pytest.raises(NotSimulated):
        decode_raw(raw)


@pytest.mark.parametrize(
    "make",
    [
        lambda: raw_of(gasPrice=9)[:-1],
        lambda: raw_of(gasPrice=9) + b"\0",
        lambda: raw_of(**FEES) + b"\0",
        lambda: raw_of(**FEES, data=bytes(MAX_DATA_BYTES)),
        lambda: raw_of(
            **FEES, accessList=[{"address": "0x" + "33" * 20, "storageKeys": []}] * 12_000
        ),
    ],
)
def test_a_signed_one_that_is_cut_off_or_too_long_is_refused(make: Callable[[], bytes]) -> None:
    raw = make()
    with pytest.raises(NotSimulated):
        decode_raw(raw)


@pytest.mark.parametrize("at", [5, 7, 8])
def test_a_list_where_bytes_belong_is_refused_and_bytes_where_a_list_does(at: int) -> None:
    """Recipient, data and access list: read loosely, an empty list would create a contract."""
    raw = raw_of(**FEES)
    fields = rlp.decode(raw[1:])
    fields[at] = b"" if at == 8 else []
    with pytest.raises(NotSimulated):
        decode_raw(raw[:1] + rlp.encode(fields))


def test_blobs_create_no_contract() -> None:
    raw = raw_of(**TYPES["4844"])
    fields = rlp.decode(raw[1:])
    fields[5] = b""
    with pytest.raises(NotSimulated):
        decode_raw(raw[:1] + rlp.encode(fields))


@given(st.data())
def test_a_changed_byte_is_another_signer_or_refused(data: st.DataObject) -> None:
    raw = bytearray(raw_of(**FEES))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_raw(bytes(raw))
    except NotSimulated:
        return
    assert found.call.sender != SIGNER


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(NotSimulated):
        decode_raw(raw)
