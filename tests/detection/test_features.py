"""The feature kernel, held against an independent definition in exact integers."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import (
    FEATURE_NAMES,
    TokenProfile,
    feature_row,
    feature_table,
)
from src.detection.features.kernel import N_FEATURES
from src.detection.features.reference_values import ReferenceValue, ReferenceValues
from src.detection.forest.manifest import TokenAmounts
from src.detection.precompile import compiled_kernels
from tests.support.reference_features import reference_features

UINT256 = 2**256 - 1
TOKENS = [f"0x{number:040x}" for number in range(0xA0, 0xA5)]
ACCOUNTS = [ZERO_ADDRESS, *(f"0x{number:040x}" for number in range(0xB0, 0xB7))]
AMOUNTS = {
    TOKENS[0]: TokenAmounts(18.0, 0.5),
    TOKENS[1]: TokenAmounts(6.0, 1.5),
    TOKENS[2]: TokenAmounts(0.0, 0.7),
}
VALUES = ReferenceValues(
    "2024-01-01",
    (
        ReferenceValue(1, TOKENS[1], "WETH", 18, 1.0),
        ReferenceValue(1, TOKENS[3], "ETH0", 0, 0.25),
    ),
)
PROFILE = TokenProfile.from_amounts(AMOUNTS, VALUES)

# Small integers give exact ties and zero nets; huge ones try the range. Not mixed near the
# tolerance: float sums and exact sums agree there only up to rounding.
amounts = st.one_of(
    st.integers(0, 5),
    st.integers(0, 5).map(lambda x: x * 10**76),
    st.just(UINT256),
    st.integers(0, UINT256),
)


def transfers_between(n_tokens, n_accounts, amount, max_size):
    transfer = st.builds(
        Transfer,
        token=st.sampled_from(TOKENS[:n_tokens]),
        sender=st.sampled_from(ACCOUNTS[:n_accounts]),
        recipient=st.sampled_from(ACCOUNTS[:n_accounts]),
        amount=amount,
        log_index=st.just(0),
    )
    return st.lists(transfer, max_size=max_size)


transactions = st.lists(
    st.tuples(
        st.one_of(
            transfers_between(5, 6, amounts, 25),
            transfers_between(2, 4, st.integers(0, 3), 12),  # dense: everything comes back
        ),
        st.sampled_from(ACCOUNTS[1:]),
    ),
    min_size=1,
    max_size=5,
)


def table_of(many, form="logged"):
    return feature_table(TransferBatch.from_transactions(many), PROFILE, form)


def named(transfers, origin=ACCOUNTS[1], profile=PROFILE):
    row = feature_row(transfers, origin, profile, "logged").tolist()
    return dict(zip(FEATURE_NAMES, row, strict=True))


def moves(*parts):
    """Transfers from (token, payer, payee, amount) by position in TOKENS and ACCOUNTS."""
    return [
        Transfer(TOKENS[token], ACCOUNTS[payer], ACCOUNTS[payee], amount, index)
        for index, (token, payer, payee, amount) in enumerate(parts)
    ]


def expected(transfers, origin):
    profile = {token: (known.center, known.scale) for token, known in AMOUNTS.items()}
    plain = [(t.token, t.sender, t.recipient, t.amount) for t in transfers]
    return reference_features(plain, origin, ZERO_ADDRESS, profile, VALUES.eth_per_unit)


@settings(max_examples=200, deadline=None)
@given(transactions)
@example([(moves((0, 1, 1, UINT256), (0, 0, 0, 7), (3, 1, 0, 0)), ACCOUNTS[1])])
def test_the_kernel_computes_what_the_definitions_say(many):
    table = table_of(many)
    assert np.isfinite(table).all()
    assert (table >= 0).all()
    for row, (transfers, origin) in zip(table, many, strict=True):
        wanted = expected(transfers, origin)
        assert tuple(wanted) == FEATURE_NAMES
        np.testing.assert_allclose(row, list(wanted.values()), rtol=1e-12, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(transactions, st.sampled_from(["logged", "view", "larger"]))
def test_a_row_alone_is_its_row_in_a_table_to_the_bit(many, form):
    table = table_of(many, form)
    for row, (transfers, origin) in zip(table, many, strict=True):
        assert np.array_equal(row, feature_row(transfers, origin, PROFILE, form))


def test_single_transfers_of_every_kind_have_the_features_that_the_definitions_give():
    accounts = range(3)  # the zero address among them
    ordinary = [int(10 ** AMOUNTS[token].center) if token in AMOUNTS else 1 for token in TOKENS]
    many = [
        (moves((token, payer, payee, amount)), ACCOUNTS[origin])
        for token in range(len(TOKENS))
        for amount in (0, 1, ordinary[token], UINT256)
        for payer in accounts
        for payee in accounts
        for origin in accounts
    ]
    for row, (transfers, origin) in zip(table_of(many), many, strict=True):
        wanted = list(expected(transfers, origin).values())
        np.testing.assert_allclose(row, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(transactions, st.permutations(ACCOUNTS[1:]))
def test_addresses_are_names_only(many, names):
    renamed = dict(zip(ACCOUNTS[1:], names, strict=True)) | {ZERO_ADDRESS: ZERO_ADDRESS}
    other = [
        (
            [
                Transfer(t.token, renamed[t.sender], renamed[t.recipient], t.amount, 0)
                for t in transfers
            ],
            renamed[origin],
        )
        for transfers, origin in many
    ]
    assert np.array_equal(table_of(many), table_of(other))


def test_a_plain_payment_is_all_zeros():
    features = named(moves((4, 1, 2, 5)))
    assert {name for name, value in features.items() if value} == {
        "max_in_degree",
        "max_out_degree",
    }


def test_a_flash_loan_round_trip_is_seen():
    # The lender (2) pays the contract (3), which pays it back; the sender (1) stays out of sight.
    features = named(moves((3, 2, 3, 100), (3, 3, 2, 101)))
    assert features["reverse_hops"] == 1.0
    assert features["repaid_hops"] == 1.0
    assert features["restored_balances"] == 1.0
    assert features["unfunded_returns"] == 1.0
    assert features["origin_absent"] == 1.0


def test_mints_and_burns_do_not_count_in_the_structure():
    inner = moves((3, 2, 3, 100), (3, 3, 2, 101))
    with_mint = [*inner, *moves((3, 0, 4, 10**20), (3, 4, 0, 10**20))]
    assert named(inner) == named(with_mint)


def test_value_kept_and_lost_is_counted_in_eth():
    # A lender (2), the sender's contract (3) and a pool (4) that gives too much.
    attack = moves((3, 2, 3, 400), (3, 3, 4, 400), (3, 4, 3, 800), (3, 3, 2, 400))
    features = named(attack)
    kept = np.log10(1 + 10 * 100)
    assert features["kept_value"] == pytest.approx(kept)
    assert features["reversed_kept_value"] == pytest.approx(kept)
    assert features["lost_value"] == pytest.approx(kept)
    # A token of no known value changes neither, unless its loss makes the contract pay itself.
    assert named([*attack, *moves((0, 4, 3, 7))])["kept_value"] == pytest.approx(kept)
    assert named([*attack, *moves((0, 3, 4, 7))])["kept_value"] == 0.0
    assert named(moves((3, 2, 3, 10**9), (3, 3, 4, 1)))["kept_value"] == 5.0


def test_the_share_that_does_not_come_back_is_counted_from_one_percent_on():
    assert named(moves((4, 2, 3, 100), (4, 3, 2, 90)))["round_loss"] == pytest.approx(1.0)
    assert named(moves((4, 2, 3, 1000), (4, 3, 2, 991)))["round_loss"] == 0.0
    assert named(moves((4, 2, 3, 100)))["round_loss"] == 0.0


def test_the_amount_features_are_capped_robust_deviations_and_0_for_unknown_tokens():
    assert named(moves((0, 2, 3, 10**18)))["foreign_excess"] == 0.0
    assert named(moves((0, 2, 3, 10**20)))["foreign_excess"] == 2.0  # (20 - 18) / 0.5 - 2
    assert named(moves((0, 2, 3, UINT256)))["foreign_excess"] == 4.0
    assert named(moves((3, 2, 3, UINT256)))["foreign_excess"] == 0.0
    assert named(moves((0, 1, 3, UINT256)))["foreign_excess"] == 0.0  # the sender's own


@pytest.mark.parametrize("n_accounts", [3, 150, 20_000])
def test_ten_thousand_hostile_transfers_give_finite_features(n_accounts):
    random = np.random.default_rng(0)
    transfers = [
        Transfer(f"0x{int(token):040x}", f"0x{int(payer):040x}", f"0x{int(payee):040x}", UINT256, 0)
        for token, payer, payee in random.integers(0, [20, n_accounts, n_accounts], (10_000, 3))
    ]
    row = feature_row(transfers, "0x" + "f" * 40, PROFILE)
    assert np.isfinite(row).all()
    assert row.max() <= len(transfers)


def test_a_transaction_without_transfers_and_an_unknown_sender_are_zeros():
    assert not feature_row([], "", PROFILE).any()
    assert named(moves((3, 1, 2, 5)), origin="")["origin_absent"] == 1.0


def test_an_empty_batch_and_an_empty_profile_work():
    profile = TokenProfile.from_amounts({})
    assert feature_table(TransferBatch.from_transactions([]), profile).shape == (0, N_FEATURES)
    assert named(moves((0, 2, 3, UINT256)), profile=profile)["taken_excess"] == 0.0


@pytest.mark.integration
def test_precompiling_reaches_every_kernel_and_says_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "src.detection.precompile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    compiled = " ".join(compiled_kernels())
    for kernel in ("transaction_features", "_leaf_sums", "_shapley"):
        assert kernel in compiled
