"""The fields of events that nobody has checked."""

from types import SimpleNamespace

import pytest

from src.chain.transactions import TransactionFields


@pytest.mark.parametrize("number", [-1, 2**63, 10**30, "0x" + "f" * 64, True, None, "latest"])
def test_a_block_number_that_no_database_holds_is_unknown(number: object) -> None:
    event = SimpleNamespace(block=SimpleNamespace(number=number, timestamp=1))
    fields = TransactionFields.from_event(event)
    assert (fields.block_number, fields.timestamp) == (None, 1)


@pytest.mark.parametrize("number", [2**63 - 1, hex(2**63 - 1)])
def test_the_largest_block_number_is_read(number: object) -> None:
    event = SimpleNamespace(block=SimpleNamespace(number=number))
    assert TransactionFields.from_event(event).block_number == 2**63 - 1
