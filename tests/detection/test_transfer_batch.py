import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.detection.features.batch import TransferBatch, amounts_from_decimals
from src.detection.features.definitions import TokenProfile, feature_table
from src.detection.forest.manifest import TokenAmounts

UINT256 = 2**256 - 1
PROFILE = TokenProfile.from_amounts({"0xa": TokenAmounts(3.0, 0.5)})

addresses = st.sampled_from(["0xa", "0xb", "0xc", "0xd", ZERO_ADDRESS])
transfers = st.builds(
    Transfer,
    token=addresses,
    sender=addresses,
    recipient=addresses,
    amount=st.integers(0, UINT256),
    log_index=st.just(0),
)


def from_columns(many):
    rows = [transfer for moved, _ in many for transfer in moved]
    counts = [len(moved) for moved, _ in many]
    return TransferBatch.from_columns(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        token=[row.token for row in rows],
        sender=[row.sender for row in rows],
        recipient=[row.recipient for row in rows],
        amount=amounts_from_decimals(str(row.amount) for row in rows),
        origin=[origin for _, origin in many],
    )


@given(st.lists(st.tuples(st.lists(transfers, max_size=8), addresses), max_size=6))
def test_columns_and_transactions_give_the_same_features_to_the_bit(many):
    one, other = from_columns(many), TransferBatch.from_transactions(many)
    assert np.array_equal(feature_table(one, PROFILE), feature_table(other, PROFILE))
    assert one.n_transactions == other.n_transactions == len(many)
    assert one.n_transfers.tolist() == [len(moved) for moved, _ in many]


def test_the_zero_address_is_account_0_even_where_nobody_uses_it():
    batch = from_columns([([Transfer("0xa", "0xb", "0xc", 1, 0)], "0xd")])
    assert 0 not in batch.sender
    assert 0 not in batch.recipient
    assert batch.n_accounts == 4


@given(st.lists(st.integers(0, UINT256)))
def test_decimal_texts_are_rounded_as_python_rounds_integers(numbers):
    assert amounts_from_decimals(map(str, numbers)).tolist() == [float(n) for n in numbers]


@pytest.mark.parametrize("tie", [2**53 + 1, 2**53 + 3, 2**200 + 2**147, 2**200 + 3 * 2**147])
def test_ties_are_rounded_to_even(tie):
    assert amounts_from_decimals([str(tie)])[0] == float(tie)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", " 1", "1_000", "1e5", "1.0", "nan", "0x1", "١", str(2**256), "9" * 100_000],
)
def test_what_is_no_decimal_uint256_is_refused(text):
    with pytest.raises(ValueError, match="uint256"):
        amounts_from_decimals([text])


@pytest.mark.parametrize(
    "change", [{"token": ["0xa"]}, {"origin": []}, {"offsets": np.array([1, 2])}]
)
def test_columns_that_do_not_fit_together_are_refused(change):
    columns = {
        "offsets": np.array([0, 2]),
        "token": ["0xa", "0xb"],
        "sender": ["0xa", "0xb"],
        "recipient": ["0xa", "0xb"],
        "amount": np.array([1.0, 2.0]),
        "origin": ["0xc"],
    }
    TransferBatch.from_columns(**columns)
    with pytest.raises(ValueError, match="offsets"):
        TransferBatch.from_columns(**columns | change)
