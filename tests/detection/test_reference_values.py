"""The table of reference values: the one that training takes, and what is refused."""

import json
from dataclasses import asdict

import pytest

from src.detection.features.reference_values import NO_VALUES, ReferenceValues
from src.training.reference_values import load_reference_values

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
ENTRY = {"chain_id": 1, "address": WETH, "symbol": "WETH", "decimals": 18, "eth": 1.0}


def table(*entries):
    return {"date": "2024-01-01", "tokens": list(entries)}


def test_training_table_has_dollars_and_a_wrapped_native_on_every_chain():
    values = load_reference_values()
    assert values.eth_per_unit[WETH] == pytest.approx(1e-18)
    usdc = values.eth_per_unit["0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"]
    assert usdc * 10**6 == pytest.approx(1 / 2300, rel=0.01)
    for chain in {token.chain_id for token in values.tokens}:
        symbols = {token.symbol for token in values.tokens if token.chain_id == chain}
        assert any("USD" in symbol for symbol in symbols)
        assert any(symbol.startswith("W") for symbol in symbols)


def test_table_reads_as_it_is_written():
    values = load_reference_values()
    assert ReferenceValues.parse(json.loads(json.dumps(asdict(values)))) == values
    assert NO_VALUES.eth_per_unit == {}


@pytest.mark.parametrize(
    "change",
    [
        {"address": WETH.upper()},
        {"address": "0x"},
        {"decimals": -1},
        {"decimals": 77},
        {"eth": 0.0},
        {"eth": float("nan")},
        {"eth": float("inf")},
    ],
)
def test_invalid_entries_are_refused(change):
    with pytest.raises(ValueError, match="reference_values"):
        ReferenceValues.parse(table(ENTRY | change))


def test_an_address_has_one_value_on_all_chains():
    other = ENTRY | {"chain_id": 10}
    assert len(ReferenceValues.parse(table(ENTRY, other)).eth_per_unit) == 1
    with pytest.raises(ValueError, match=WETH):
        ReferenceValues.parse(table(ENTRY, other | {"eth": 2.0}))
