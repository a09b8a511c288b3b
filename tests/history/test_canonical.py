"""Amounts, addresses and times are exact or refused, and what is there twice counts once."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.backtest.scoring.transactions import batch_of
from src.chain.transfers import NATIVE_EMITTERS
from src.datasets import fixed_bytes as columns
from src.datasets.tables import TableError
from tests.history.imports import from_tables

TX, SENDER, TOKEN = "0x" + "ab" * 32, "0x" + "12" * 20, "0x" + "34" * 20


def table_of(
    amounts: Any = ("1",), *, sender: Any = SENDER, payee: Any = TOKEN, time: Any = 1_700_000_000
) -> pa.Table:
    """The store's form of one transaction with a transfer of each amount."""
    count = len(amounts)
    transactions = {
        "tx_hash": [TX], "block_number": [7], "block_timestamp": [time], "from_address": [sender],
    }  # fmt: skip
    transfers = {
        "tx_hash": [TX] * count,
        "log_index": list(range(count)),
        "token_address": [TOKEN] * count,
        "from_address": [SENDER] * count,
        "to_address": [payee] * count,
        "value_raw": amounts,
    }
    return from_tables(pa.table(transactions), pa.table(transfers))


def amounts_of(amounts: Any) -> list[int]:
    (row,) = table_of(amounts).to_pylist()
    return [int.from_bytes(transfer["amount"], "big") for transfer in row["transfers"]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**256 - 1), min_size=1))
def test_amounts_are_exact_and_round_like_pythons(values):
    table = table_of([str(value) for value in values])
    batch = batch_of(table)
    assert columns.integers(batch.amount) == values
    assert batch.transfers.amount.tolist() == [float(value) for value in values]


@pytest.mark.parametrize("bits", [53, 54, 64, 65, 117, 118, 128, 192, 255])
def test_amounts_between_two_floats_round_to_even(bits):
    half = 2 ** max(bits - 53, 0)
    near = [2**bits + delta for delta in (-1, 0, 1)]
    near += [2**bits + k * half + d for k in (1, 2, 3) for d in (-1, 0, 1)]
    near = [v for v in near if 0 <= v < 2**256]
    amounts = pa.array([v.to_bytes(32, "big") for v in near], pa.binary(32))
    assert columns.floats_of(amounts).tolist() == [float(v) for v in near]
    assert columns.floats_of(amounts.slice(1)).tolist() == [float(v) for v in near[1:]]


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1_0", " 1", "1 ", "1.5", "1e3", "0x1", "٣", str(2**256), "9" * 79]
)
def test_what_is_no_uint256_is_refused(text):
    with pytest.raises(TableError, match="uint256"):
        table_of(["7", text])


@pytest.mark.parametrize(
    "amounts",
    [
        pa.array([5, 2**63 - 1]),
        pa.array([Decimal(5), Decimal(2**63 - 1)], pa.decimal128(38, 9)),
        pa.array([n.to_bytes(32, "big") for n in (5, 2**63 - 1)]),
        pa.array(["5", str(2**63 - 1)], pa.string_view()),
        pa.array(["005", f"{2**63 - 1}.000"]).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_exact_types_are_taken(amounts):
    assert amounts_of(amounts) == [5, 2**63 - 1]


def test_a_fraction_is_refused():
    with pytest.raises(TableError):
        table_of(pa.array([Decimal("5.5")], pa.decimal128(38, 9)))


@pytest.mark.parametrize(
    "text",
    [
        "0x",
        "0x12",
        "34" * 19 + "3",
        "0x" + "zz" * 20,
        "0X34" * 10,
        "0x" + "\uff11" * 40,
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(TableError):
        table_of(payee=text)


@pytest.mark.parametrize("text", [TOKEN.upper(), TOKEN[2:], "0x" + TOKEN[2:].upper()])
def test_hex_is_taken_in_either_case_and_without_its_prefix(text):
    assert table_of(payee=text) == table_of()


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_times_are_seconds_whatever_the_source_counts(factor):
    (row,) = table_of(time=1_700_000_001 * factor).to_pylist()
    assert row["block_timestamp"] == 1_700_000_001


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_unit_are_taken(unit):
    time = pa.scalar(1_700_000_001, pa.timestamp("s", "UTC")).cast(pa.timestamp(unit, "UTC"))
    (row,) = table_of(time=time).to_pylist()
    assert row["block_timestamp"] == 1_700_000_001


@pytest.mark.parametrize(
    "text", ["2023-11-14T22:13:21Z", "2023-11-14 22:13:21 UTC", "2023-11-14 22:13:21.000+00:00"]
)
def test_times_in_words_are_taken(text):
    (row,) = table_of(time=text).to_pylist()
    assert row["block_timestamp"] == 1_700_000_001


@pytest.mark.parametrize(
    "time", [20231114, "20231114", 20231114120000, 20231114.0, 0, 5, 45_244, 2**32, 2**32 * 10**9]
)
def test_a_time_that_no_chain_has_is_refused(time):
    said = rf"transactions\.parquet: block_timestamp is not a time since 2015-07-30 .*: '?{time}'?;"
    with pytest.raises(TableError, match=said):
        table_of(time=time)


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_the_first_and_the_last_second_are_taken(factor):
    for time in (1_438_269_973, 2**32 - 1):
        (row,) = table_of(time=time * factor).to_pylist()
        assert row["block_timestamp"] == time


@pytest.mark.parametrize("blank", [None, "", b""])
def test_an_unknown_sender_stays_unknown(blank):
    table = table_of(sender=blank)
    assert table["from_address"].to_pylist() == [None]
    assert not batch_of(table).has_sender[0]


def test_a_native_transfer_is_none_of_a_token():
    rows = {
        "tx_hash": [TX, TX], "log_index": [0, 1],
        "token_address": [TOKEN, sorted(NATIVE_EMITTERS)[0].upper().replace("0X", "0x")],
        "from_address": [SENDER] * 2, "to_address": [TOKEN] * 2, "value_raw": ["1", "1"],
    }  # fmt: skip
    transactions = {
        "tx_hash": [TX],
        "block_number": [7],
        "block_timestamp": [1_700_000_000],
        "from_address": [SENDER],
    }
    assert from_tables(pa.table(transactions), pa.table(rows)) == table_of()
