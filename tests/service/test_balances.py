"""What each account gained and lost: exact, ordered, with gas and the native currency."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, NativeTransfer, Transfer
from src.decision.money import TokenPrice
from src.decision.tokens import TokenView
from src.detection.records import NATIVE, NATIVE_DECIMALS
from src.service.balances import AccountChanges, Worth, account_changes
from src.service.records import LoadedTransaction
from tests.conftest import ALICE, BOB, UNKNOWN_TOKEN, USDC
from tests.service.database.rows import transaction

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
CAROL, DAVE = "0x" + "c3" * 20, "0x" + "d4" * 20
ETHER = 10**18
TOKENS = {
    USDC: TokenView(USDC, "USD Coin", "USDC", 6, well_known=True),
    WETH: TokenView(WETH, "Wrapped Ether", "WETH", 18, well_known=True),
    NATIVE: TokenView(NATIVE, "ETH", "ETH", NATIVE_DECIMALS, well_known=True),
}
WORTH = Worth(
    prices={USDC: TokenPrice(1.0, 6, "fixed")},
    values={WETH: 1 / ETHER},
    has_list=True,
    wrapped_native=WETH,
)


def changes(one: LoadedTransaction, side: tuple[str, ...] = ()) -> list[AccountChanges]:
    return account_changes(one, TOKENS, WORTH, side)


def told(found: AccountChanges) -> list[str]:
    return [f"{'+' if one.is_gain else '-'}{one.amount} {one.label}" for one in found.changes]


def moved(*transfers: tuple[str, str, str, int], **facts: object) -> LoadedTransaction:
    rows = tuple(Transfer(*row, index) for index, row in enumerate(transfers))
    usual = {"transfers": rows, "gas_used": None, "value": None}
    return transaction(**(usual | facts))


def test_accounts_are_in_order_of_what_they_gained_or_lost_and_the_zero_address_is_last() -> None:
    found = changes(
        moved(
            (USDC, BOB, ALICE, 5 * 10**6),
            (WETH, DAVE, CAROL, ETHER),  # worth about 2,000 USD by its reference value
            (USDC, ZERO_ADDRESS, BOB, 10**12),
            (UNKNOWN_TOKEN, ALICE, BOB, 10**30),
        )
    )
    assert [one.account for one in found] == [BOB, DAVE, CAROL, ALICE, ZERO_ADDRESS]
    assert found[-1].roles == ("minted and burned",)
    assert (found[0].usd, found[0].is_whole) == (10**6 - 5.0, False)
    assert found[1].usd is None


def test_sender_called_and_side_are_marked() -> None:
    one = moved((USDC, CAROL, BOB, 9), (USDC, CAROL, ALICE, 5), (USDC, CAROL, DAVE, 1), to=BOB)
    roles = {found.account: found.roles for found in changes(one, (ALICE, BOB, DAVE))}
    assert roles == {ALICE: ("sender",), BOB: ("called",), CAROL: (), DAVE: ("sender's side",)}


def test_gas_and_the_native_currency_count() -> None:
    one = moved(gas_used=50_000, gas_price=10**9, value=ETHER, to=BOB)
    assert {found.account: told(found) for found in changes(one)} == {
        ALICE: ["-1 ETH", "-0.00005 ETH"],
        BOB: ["+1 ETH"],
    }
    (sender,) = [found for found in changes(one) if found.account == ALICE]
    assert [change.is_gas for change in sender.changes] == [False, True]


def test_wrapping_is_a_gain_of_the_wrapped_currency() -> None:
    native = (NativeTransfer(ALICE, WETH, ETHER, 0),)
    found = {one.account: told(one) for one in changes(moved(native=native))}
    assert found[ALICE] == ["-1 ETH", "+1 WETH"]
    assert found[ZERO_ADDRESS] == ["-1 WETH"]


def test_wrapping_that_the_token_logs_counts_once() -> None:
    native = (NativeTransfer(ALICE, WETH, ETHER, 0), NativeTransfer(WETH, BOB, 2 * ETHER, 3))
    logged = (WETH, ZERO_ADDRESS, ALICE, ETHER), (WETH, BOB, ZERO_ADDRESS, 2 * ETHER)
    found = {one.account: told(one) for one in changes(moved(*logged, native=native))}
    assert sorted(found[ALICE]) == ["+1 WETH", "-1 ETH"]
    assert sorted(found[BOB]) == ["+2 ETH", "-2 WETH"]


def test_what_states_no_decimals_is_an_unknown_amount() -> None:
    (first, _) = changes(moved((UNKNOWN_TOKEN, ALICE, BOB, 123_456)))
    (change,) = first.changes
    assert (change.amount, change.exact) == ("", "123456 raw units")
    assert change.is_unlisted


ADDRESSES = st.sampled_from([ALICE, BOB, CAROL, DAVE, WETH, ZERO_ADDRESS])
AMOUNTS = st.integers(0, 2**256 - 1)
MOVES = st.tuples(st.sampled_from([USDC, WETH, UNKNOWN_TOKEN]), ADDRESSES, ADDRESSES, AMOUNTS)


@given(st.lists(MOVES, max_size=8), st.lists(st.tuples(ADDRESSES, ADDRESSES, AMOUNTS), max_size=4))
def test_nothing_is_created_or_lost(moves, native) -> None:
    one = moved(*moves, native=tuple(NativeTransfer(*row, 100 + n) for n, row in enumerate(native)))
    total: dict[str, int] = defaultdict(int)
    found = changes(one)
    for account in found:
        assert account.changes
        for change in account.changes:
            decimals = {USDC: 6, UNKNOWN_TOKEN: 0}.get(change.token, 18)
            digits = change.exact.removesuffix(" raw units").replace(",", "")
            whole, _, part = digits.partition(".")
            raw = int(whole + part.ljust(decimals, "0"))
            assert raw > 0
            total[change.token] += raw if change.is_gain else -raw
    assert not any(total.values())
    assert len({account.account for account in found}) == len(found)
