"""The view in which one party is one account: against a plain definition, and by property."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import (
    FEATURE_NAMES,
    TokenProfile,
    feature_row,
    feature_table,
)
from src.detection.features.reference_values import ReferenceValue, ReferenceValues
from src.detection.forest.manifest import TokenAmounts
from src.detection.parties import FLASH_MINT, Parties, parties_of
from tests.support.reference_features import reference_features
from tests.support.reference_view import reference_view

TOKENS = [f"0x{number:040x}" for number in range(0xA0, 0xA4)]
ACCOUNTS = [ZERO_ADDRESS, *(f"0x{number:040x}" for number in range(0xB0, 0xB6))]
RELAY = "0x" + "c" * 40
ORIGIN = ACCOUNTS[1]
AMOUNTS = {TOKENS[0]: TokenAmounts(1.0, 0.5)}
VALUES = ReferenceValues("2024-01-01", (ReferenceValue(1, TOKENS[0], "ETH0", 0, 0.25),))
PROFILE = TokenProfile.from_amounts(AMOUNTS, VALUES)


def transfers_of(amount, max_size):
    return st.lists(
        st.builds(
            Transfer,
            token=st.sampled_from(TOKENS),
            sender=st.sampled_from(ACCOUNTS),
            recipient=st.sampled_from(ACCOUNTS),
            amount=amount,
            log_index=st.just(0),
        ),
        max_size=max_size,
    )


# Few distinct amounts: accounts pass on what they got, and loans come back.
transactions = st.tuples(
    st.one_of(
        transfers_of(st.sampled_from([0, 1, 2, 5, 5000]), 12),
        transfers_of(st.sampled_from([1, 2**256 - 1]), 8),
    ),
    st.sampled_from(ACCOUNTS[1:]),
)


def moves(*parts):
    """Transfers from (token, payer, payee, amount) by position in TOKENS and ACCOUNTS."""
    return [
        Transfer(TOKENS[token], ACCOUNTS[payer], ACCOUNTS[payee], amount, index)
        for index, (token, payer, payee, amount) in enumerate(parts)
    ]


def parties(transfers, origin=ORIGIN) -> Parties:
    return parties_of(transfers, origin, VALUES.eth_per_unit)


def merged(transfers, origin=ORIGIN):
    """Accounts that act for another one, and the one that they act for."""
    found = parties(transfers, origin)
    left = {party for dealing in found.dealings for party in (dealing.sender, dealing.recipient)}
    return {
        account: found.agent
        for transfer in transfers
        for account in (transfer.sender, transfer.recipient)
        if found.agent is not None and account not in left
    }


def seen(transfers, origin=ORIGIN):
    """The view in the form of `moves`, by position; a lender is named by its token."""
    lenders = {FLASH_MINT + token: f"lender {place}" for place, token in enumerate(TOKENS)}
    names = lenders | {address: place for place, address in enumerate(ACCOUNTS)}
    return [
        (TOKENS.index(t.token), names[t.sender], names[t.recipient], t.amount)
        for t in parties(transfers, origin).dealings
    ]


def named(transfers, origin=ORIGIN, form="view"):
    row = feature_row(transfers, origin, PROFILE, form)
    return dict(zip(FEATURE_NAMES, row.tolist(), strict=True))


@given(transactions)
@example((moves((0, 2, 3, 5), (0, 3, 2, 5)), ORIGIN))
@example((moves((0, 2, 3, 5), (0, 3, 4, 5), (0, 4, 2, 5)), ORIGIN))
@example((moves((0, 0, 3, 5), (0, 3, 0, 5)), ORIGIN))
def test_the_kernel_sees_what_the_definition_says(transaction):
    transfers, origin = transaction
    plain = [(t.token, t.sender, t.recipient, t.amount) for t in transfers]
    eth = VALUES.eth_per_unit
    wanted = reference_view(plain, origin, ZERO_ADDRESS, eth)
    named_lenders = [
        tuple(FLASH_MINT + side[1] if isinstance(side, tuple) else side for side in move)
        for move in wanted
    ]
    found = parties(transfers, origin).dealings
    assert [(t.token, t.sender, t.recipient, t.amount) for t in found] == named_lenders

    profile = {token: (known.center, known.scale) for token, known in AMOUNTS.items()}
    features = reference_features(wanted, origin, ZERO_ADDRESS, profile, eth)
    row = feature_row(transfers, origin, PROFILE, "view")
    np.testing.assert_allclose(row, list(features.values()), rtol=1e-12, atol=1e-12)


@given(st.lists(transactions, max_size=4))
def test_a_row_alone_is_its_row_in_a_table_to_the_bit_in_every_form(many):
    batch = TransferBatch.from_transactions(many)
    tables = {form: feature_table(batch, PROFILE, form) for form in ("logged", "view", "larger")}
    assert np.array_equal(np.maximum(tables["logged"], tables["view"]), tables["larger"])
    for form, table in tables.items():
        assert np.isfinite(table).all()
        assert (table >= 0).all()
        for row, (transfers, origin) in zip(table, many, strict=True):
            assert np.array_equal(row, feature_row(transfers, origin, PROFILE, form))


@given(transactions, st.permutations(ACCOUNTS[1:]))
def test_addresses_are_names_only(transaction, names):
    transfers, origin = transaction
    renamed = dict(zip(ACCOUNTS[1:], names, strict=True)) | {ZERO_ADDRESS: ZERO_ADDRESS}
    other = [
        Transfer(t.token, renamed[t.sender], renamed[t.recipient], t.amount, 0) for t in transfers
    ]
    assert named(transfers, origin) == named(other, renamed[origin])


@given(transactions, st.data())
def test_a_relay_between_the_sides_of_any_transfer_changes_nothing(transaction, data):
    transfers, origin = transaction
    assume(transfers)
    place = data.draw(st.integers(0, len(transfers) - 1))
    hop = transfers[place]
    assume(hop.sender != hop.recipient)  # a payment to oneself would go round
    relayed = [
        *transfers[:place],
        Transfer(hop.token, hop.sender, RELAY, hop.amount, 0),
        Transfer(hop.token, RELAY, hop.recipient, hop.amount, 0),
        *transfers[place + 1 :],
    ]
    assert named(relayed, origin) == named(transfers, origin)


def test_a_plain_payment_and_an_ordinary_swap_are_seen_as_they_are():
    assert seen(moves((0, 1, 2, 5))) == [(0, 1, 2, 5)]
    swap = ((0, 1, 2, 5), (1, 2, 1, 9))
    assert seen(moves(*swap)) == list(swap)


def test_shells_are_one_account_and_the_sender_stands_for_them_if_it_is_one():
    # Lender 2, contracts 3 and 4, pool 5: 3 borrows, hands over to 4, which trades and repays.
    attack = moves((0, 2, 3, 95), (0, 3, 4, 90), (0, 4, 5, 80), (1, 5, 4, 7), (0, 4, 2, 10))
    assert seen(attack) == [(0, 2, 3, 95), (0, 3, 5, 80), (1, 5, 3, 7), (0, 3, 2, 10)]
    assert merged(attack) == {ACCOUNTS[4]: ACCOUNTS[3]}
    assert merged(attack, ACCOUNTS[4]) == {ACCOUNTS[3]: ACCOUNTS[4]}


def test_a_flash_mint_is_a_loan():
    mint = moves((0, 0, 3, 100), (0, 3, 4, 60), (0, 4, 3, 70), (0, 3, 0, 100))
    assert seen(mint)[0] == (0, "lender 0", 3, 100)
    assert named(mint) == named([*moves((0, 5, 3, 100)), *mint[1:3], *moves((0, 3, 5, 100))])
    assert named(mint)["repaid_hops"] > named(mint, form="logged")["repaid_hops"]
    only_minted = moves((0, 0, 3, 100), (0, 3, 4, 60))
    assert seen(only_minted)[0] == (0, 0, 3, 100)


def test_a_small_stake_of_its_own_does_not_hide_a_shell():
    def attack(stake):
        return moves((0, 3, 4, stake), (0, 2, 3, 10_000), (0, 3, 5, 4_000), (0, 3, 4, 5_000))

    assert merged(attack(99), ACCOUNTS[3]) == {}
    assert len(seen(attack(99))) == 4
    # 3 is a shell or not; relay 4 sends on, so that merging shows.
    relayed = moves((0, 4, 3, 5_000), (0, 4, 5, 1))
    assert merged([*attack(99), *relayed]) == {ACCOUNTS[4]: ACCOUNTS[3]}
    assert merged([*attack(100), *relayed]) == {}


def test_tokens_left_out_go_only_where_others_remain():
    batch = TransferBatch.from_transactions(
        [(moves((0, 1, 2, 5), (1, 2, 3, 6)), ORIGIN), (moves((1, 2, 3, 7)), ORIGIN), ([], ORIGIN)]
    )
    left = batch.without({TOKENS[1]})
    assert left.n_transfers.tolist() == [1, 1, 0]
    assert left.amount.tolist() == [5.0, 7.0]
    assert batch.without(()).amount.tolist() == [5.0, 6.0, 7.0]
    row = feature_row(moves((0, 1, 2, 5)), ORIGIN, PROFILE)
    assert np.array_equal(feature_table(left, PROFILE)[0], row)


@pytest.mark.parametrize("n_accounts", [3, 150, 20_000])
def test_ten_thousand_hostile_transfers_have_a_finite_view(n_accounts):
    random = np.random.default_rng(0)
    transfers = [
        Transfer(f"0x{token:040x}", f"0x{payer:040x}", f"0x{payee:040x}", 2**256 - 1, 0)
        for token, payer, payee in random.integers(
            0, [20, n_accounts, n_accounts], (10_000, 3)
        ).tolist()
    ]
    assert np.isfinite(feature_row(transfers, "0x" + "f" * 40, PROFILE, "view")).all()
