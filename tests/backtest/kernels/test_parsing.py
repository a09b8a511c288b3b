"""Amounts and addresses are parsed exactly or refused."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.backtest.kernels import arrow
from src.backtest.reading import columns


@given(st.lists(st.integers(0, 2**256 - 1)))
def test_amounts_are_exact_and_round_like_pythons(values):
    words, good = columns.parsed_amounts(pa.chunked_array([[str(v) for v in values]], pa.string()))
    assert good.all()
    assert columns.integers(words) == values
    assert arrow.to_floats(words).tolist() == [float(v) for v in values]


@pytest.mark.parametrize("bits", [53, 54, 64, 65, 117, 118, 128, 192, 255])
def test_amounts_between_two_floats_round_to_even(bits):
    near = [2**bits + delta for delta in (-1, 0, 1)]
    half = 2 ** max(bits - 53, 0)
    near += [2**bits + k * half + d for k in (1, 2, 3) for d in (-1, 0, 1)]
    near = [v for v in near if 0 <= v < 2**256]
    words, _ = columns.parsed_amounts(pa.chunked_array([[str(v) for v in near]]))
    assert arrow.to_floats(words).tolist() == [float(v) for v in near]


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1_0", " 1", "1 ", "1.0", "0x1", "٣", str(2**256), "9" * 79, None]
)
def test_what_is_no_uint256_is_refused(text):
    _, good = columns.parsed_amounts(pa.chunked_array([["7", text]], pa.string()))
    assert good.tolist() == [True, False]


@given(st.binary(min_size=42, max_size=42) | st.text(max_size=44).map(str.encode))
def test_what_is_no_address_is_refused(data):
    array = pa.chunked_array([pa.array([data]).cast(pa.binary())])
    text = pa.chunked_array([pa.Array.from_buffers(pa.string(), 1, array.chunk(0).buffers())])
    _, good = columns.parsed_bytes(text, 20)
    digits = data[2:].decode("latin-1").lower()
    expected = (
        len(data) == 42
        and data[:2].lower() == b"0x"
        and all(digit in "0123456789abcdef" for digit in digits)
    )
    assert good[0] == expected


@given(st.lists(st.binary(min_size=20, max_size=20)))
def test_addresses_survive_as_text_and_as_bytes(values):
    texts = ["0x" + value.hex() for value in values]
    shouted = [text.upper() for text in texts]
    from_text, _ = columns.parsed_bytes(pa.chunked_array([shouted], pa.string()), 20)
    from_bytes, _ = columns.parsed_bytes(pa.chunked_array([values], pa.binary()), 20)
    assert (from_text == from_bytes).all()
    assert columns.hex_column(from_text, 20).to_pylist() == texts


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_cut_columns_with_gaps_are_read_as_they_are(kind):
    texts = ["0x" + f"{n:02x}" * 20 if n % 3 else None for n in range(20)]
    column = pa.chunked_array([pa.array(texts[:9], kind).slice(2), pa.array(texts[9:], kind)])
    words, good = columns.parsed_bytes(column, 20)
    assert good.tolist() == [text is not None for text in texts[2:]]
    assert columns.hex_column(words[good], 20).to_pylist() == [t for t in texts[2:] if t]
    amounts = [str(n) if n % 3 else None for n in range(20)]
    words, good = columns.parsed_amounts(pa.chunked_array([pa.array(amounts, kind).slice(3)]))
    assert good.tolist() == [amount is not None for amount in amounts[3:]]
    assert columns.integers(words) == [int(amount or 0) for amount in amounts[3:]]


@given(
    st.lists(st.sampled_from([f"0x{7:040x}", f"0x{2**159:040X}", "0x7", "", None]), max_size=30),
    st.integers(0, 30),
    st.sets(st.integers(0, 29)),
    st.booleans(),
)
def test_some_values_are_parsed_as_among_all(texts, cut, some, as_dictionary):
    chunks = [pa.array(texts[:cut], pa.string()), pa.array(texts[cut:], pa.string())]
    column = pa.chunked_array(
        [chunk.dictionary_encode() for chunk in chunks] if as_dictionary else chunks
    )
    rows = np.array(sorted(row for row in some if row < len(texts)), np.int64)
    everything = columns.parsed_bytes(pa.chunked_array(chunks), 20)
    for found, wanted in zip(columns.parsed_bytes(column, 20, rows), everything, strict=True):
        assert np.array_equal(found, wanted[rows])
    assert everything[1].tolist() == [text is not None and len(text) == 42 for text in texts]
