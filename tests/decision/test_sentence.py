"""The sentence on a transaction: who gained and lost what, whatever tokens are called."""

import re
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import rlp
from eth_utils.crypto import keccak
from hypothesis import example, given
from hypothesis import strategies as st

from src.chain.facts import Price
from src.chain.names.book import AddressName
from src.chain.networks import network
from src.chain.quantities import compact, dollars, duration
from src.chain.transactions import TransactionFields, created_contract
from src.chain.transfers import NativeTransfer
from src.decision.money import Money, money_of
from src.decision.pricing import native_summary
from src.decision.sentence import MAX_LENGTH, nameless, sentence
from src.decision.tokens import TokenView
from src.detection.detectors.base import percentage, than_training
from src.detection.evidence import Evidence
from src.detection.records import NATIVE, ZERO_ADDRESS
from tests.detection.test_parties import (
    ACCOUNTS,
    GOLD,
    HUB,
    IRON,
    LENDER,
    OTHER,
    POOL,
    SENDER,
    TIN,
    VICTIM,
    WETH,
    Ether,
    Moved,
)

ETHER = 10**18
TOKENS = {
    WETH: TokenView(WETH, "Wrapped", "WETH", 18, well_known=True),
    GOLD: TokenView(GOLD, "Gold", "GOLD", 2, well_known=True),
    IRON: TokenView(IRON, "Iron", "IRON", 6),
}
LABELS = {
    POOL: AddressName("Some Pool", "pool", "test"),
    LENDER: AddressName("Some router", "router", "test"),
}


def short(address: str) -> str:
    return f"{address[:8]}…{address[-4:]}"


def evidence_of(transfers: list[Moved], **facts) -> Evidence:
    usual = {"sender": SENDER, "to": HUB, "values": {WETH: 1 / ETHER}, "wrapped_native": WETH}
    return Evidence(transfers, **(usual | facts))


def priced(evidence: Evidence, **prices: float) -> Money:
    known = {{"weth": WETH, "gold": GOLD}[name]: Price(usd, "test") for name, usd in prices.items()}
    return money_of(
        evidence.gains, known, TOKENS, wrapped_native=WETH, gas_cost=0, is_arbitrage=False
    )


def told(transfers: list[Moved], *, prices: dict[str, float] | None = None, **facts) -> str:
    arbitrage = facts.pop("is_arbitrage", False)
    evidence = evidence_of(transfers, **facts)
    money = None if prices is None else priced(evidence, **prices)
    return sentence(evidence, TOKENS, money=money, is_arbitrage=arbitrage, names=LABELS.get)


def names_shortened(text: str) -> str:
    known = {SENDER: "S", HUB: "H", POOL: "P", VICTIM: "V", OTHER: "O", LENDER: "L"}
    for address, letter in known.items():
        text = text.replace(short(address), letter)
    return text


THEFT = [
    Moved(WETH, VICTIM, HUB, 3 * ETHER),
    Moved(GOLD, VICTIM, HUB, 4_321_000_00),
    Moved(IRON, OTHER, HUB, 5 * 10**6),
]


@pytest.mark.parametrize(
    ("transfers", "facts", "expected"),
    [
        (
            THEFT,
            {"nonce": 1, "account_age_minutes": 12.5, "called_is_new": True},
            "S (2nd transaction, account 12 minutes old, contract younger than a day) gained 3 "
            "WETH, 4.32 M GOLD and 5 IRON (unlisted); V lost 3 WETH and 4.32 M GOLD, 1 more "
            "account lost something.",
        ),
        (
            THEFT,
            {"prices": {"gold": 1.0}},
            "S gained 4.32 M GOLD, 3 WETH and 5 IRON (unlisted) (about $4.32 M and 2 tokens of "
            "unknown worth); V lost 4.32 M GOLD and 3 WETH (about $4.32 M and 1 token of unknown "
            "worth), 1 more account lost something.",
        ),
        ([Moved(GOLD, SENDER, OTHER, 250_00)], {}, "S sent 250 GOLD to O."),
        (
            [Moved(GOLD, SENDER, ACCOUNTS[n], 100) for n in (3, 4, 5)],
            {},
            "S sent 3 GOLD to 3 accounts.",
        ),
        ([Moved(GOLD, SENDER, ZERO_ADDRESS, 100)], {}, "S gave up 1 GOLD."),
        ([Moved(GOLD, ZERO_ADDRESS, SENDER, 100)], {}, "S gained 1 GOLD, newly minted."),
        (
            [Moved(GOLD, ZERO_ADDRESS, one, 100) for one in (POOL, VICTIM)],
            {},
            "S had 2 GOLD minted to 2 accounts.",
        ),
        (
            [Moved(GOLD, SENDER, OTHER, 3_279_00), Moved(WETH, OTHER, SENDER, ETHER)],
            {},
            "S gave 3,279 GOLD and received 1 WETH in exchange with O.",
        ),
        (
            [Moved(GOLD, SENDER, POOL, 3_279_00), Moved(WETH, POOL, SENDER, ETHER)],
            {"to": POOL},
            "S gave 3,279 GOLD and received 1 WETH through Some Pool (P).",
        ),
        (
            [Moved(GOLD, SENDER, OTHER, 1_000_00), Moved(WETH, OTHER, SENDER, ETHER)],
            {"prices": {"gold": 1.0, "weth": 3000.0}},
            "S gave 1,000 GOLD and received 1 WETH, a net gain of about $2,000, in exchange "
            "with O.",
        ),
        (
            [Moved(GOLD, SENDER, ZERO_ADDRESS, 1_000_00), Moved(WETH, VICTIM, SENDER, ETHER)],
            {"prices": {"gold": 1.0, "weth": 3000.0}},
            "S gave 1,000 GOLD and received 1 WETH, a net gain of about $2,000; V lost 1 WETH "
            "(about $3,000).",
        ),
        ([Moved(GOLD, VICTIM, OTHER, 5_00)], {}, "S moved 5 GOLD from V to O."),
        (
            [Moved(GOLD, VICTIM, ZERO_ADDRESS, 5_00)],
            {},
            "S moved 5 GOLD from V, which were burned.",
        ),
        (  # the called contract bought beforehand what it gives for its loot
            [
                Moved(IRON, HUB, POOL, 5 * 10**6),
                Moved(WETH, VICTIM, HUB, 3 * ETHER),
                Moved(GOLD, VICTIM, OTHER, 1_00),
            ],
            {"native": ()},
            "S ended with what it had; H gained 3 WETH for 5 IRON (unlisted), and 2 more gained; "
            "V lost 3 WETH and 1 GOLD.",
        ),
        (
            [Moved(GOLD, VICTIM, OTHER, 5_00), Moved(WETH, LENDER, OTHER, ETHER)],
            {"native": ()},
            "S ended with what it had; O gained 1 WETH and 5 GOLD; Some router (L) lost 1 WETH, 1 "
            "more account lost something.",
        ),
        (  # the contract that the sender pays takes of another account as well
            [Moved(IRON, SENDER, HUB, 20 * 10**6), Moved(IRON, VICTIM, HUB, 10**6)],
            {},
            "S gave 20 IRON (unlisted); H gained 21 IRON (unlisted); V lost 1 IRON (unlisted).",
        ),
        (  # one lost five cents, far less than a millionth of what others did; the pool a rounding
            [
                Moved(GOLD, VICTIM, POOL, 10**9),
                Moved(GOLD, POOL, OTHER, 10**9 + 1),
                Moved(GOLD, LENDER, "0x" + "99" * 20, 5),
            ],
            {"native": ()},
            "S ended with what it had; O gained 10 M GOLD and 1 more gained; V lost 10 M GOLD, 1 "
            "more account lost something.",
        ),
        (
            [Moved(WETH, LENDER, HUB, 7 * ETHER), Moved(WETH, HUB, LENDER, 7 * ETHER)],
            {"native": ()},
            "S moved up to 7 WETH in 2 transfers between 2 accounts, and every account ended with "
            "what it had.",
        ),
        (
            [Moved(GOLD, VICTIM, OTHER, 0)],
            {},
            "S logged 1 transfer of nothing, and no balance changed (without internal transfers of "
            "ETH, which are unknown).",
        ),
        (
            [
                Moved(GOLD, POOL, OTHER, 70),
                Moved(WETH, OTHER, POOL, ETHER),
                Moved(GOLD, POOL, HUB, 5),
            ],
            {"is_arbitrage": True},
            "S gained 0.05 GOLD by arbitrage with 2 accounts.",
        ),
        (
            [Moved(WETH, VICTIM, OTHER, 9 * ETHER), Moved(GOLD, VICTIM, SENDER, 100)],
            {},
            "S gained 1 GOLD; O gained 9 WETH; V lost 9 WETH and 1 GOLD.",
        ),
        (
            [Moved(WETH, VICTIM, LENDER, 9 * ETHER), Moved(GOLD, VICTIM, SENDER, 100)],
            {},
            "S gained 1 GOLD; 9 WETH went to Some router (L), which may have paid out ETH; V lost "
            "9 WETH and 1 GOLD.",
        ),
    ],
)  # fmt: skip
def test_it_says_who_gained_and_lost_what(transfers, facts, expected) -> None:
    assert names_shortened(told(transfers, **facts)) == expected


def test_a_bot_that_is_called_trades_in_its_own_name() -> None:
    trade = [Moved(GOLD, VICTIM, POOL, 3_279_00), Moved(WETH, POOL, VICTIM, ETHER)]
    got = told(trade, to=VICTIM, value=1)  # a wei, as bots send it
    assert names_shortened(got) == (
        "S had V give 3,279 GOLD and receive 1 WETH in exchange with Some Pool (P)."
    )


def test_native_value_counts_and_gas_does_not() -> None:
    got = told(
        [Moved(GOLD, POOL, SENDER, 100)],
        native=[Ether(SENDER, POOL, ETHER // 2)],
        to=POOL,
    )
    assert names_shortened(got) == "S gave 0.5 ETH and received 1 GOLD through Some Pool (P)."


def test_a_contract_that_the_sender_created_is_called_its_own() -> None:
    # https://eips.ethereum.org/EIPS/eip-1014 has no vectors for CREATE; these are of go-ethereum.
    creator = "0x970e8128ab834e8eac17ab8e3812f010678cf791"
    assert created_contract(creator, 0) == "0x333c3310824b7c685133f2bedb2ca4b8b4df633d"
    assert created_contract(creator, 1) == "0x8bda78331c916a08481428e4b07c96d3e916d165"
    assert created_contract(creator, 2) == "0xc9ddedf451bc62ce88bf9292afb13df35b670699"
    for nonce in (0, 3, 127, 128, 255, 256, 2**40):
        content = rlp.encode([bytes.fromhex(SENDER[2:]), nonce])
        assert created_contract(SENDER, nonce) == f"0x{keccak(content)[-20:].hex()}"
    own = created_contract(SENDER, 3)
    assert "its own contract" in told([Moved(GOLD, VICTIM, own, 5)], to=own, nonce=4)
    assert "its own contract" not in told([Moved(GOLD, VICTIM, own, 5)], to=own, nonce=3)


def test_what_has_no_decimals_is_of_unknown_amount_and_never_raw() -> None:
    without = TOKENS | {GOLD: TokenView(GOLD, "", "GOLD", None, well_known=True)}
    evidence = evidence_of(
        [Moved(GOLD, VICTIM, SENDER, 123_456), Moved(TIN, VICTIM, SENDER, 987_654)]
    )
    got = sentence(evidence, without)
    assert "gained an unknown amount of GOLD and 1 more token;" in got
    moved = [*evidence.transfers, Moved(IRON, VICTIM, SENDER, 10**6)]
    assert "gained 1 IRON (unlisted) and 2 more tokens;" in sentence(evidence_of(moved), without)
    assert "123456" not in got.replace(",", "")


@pytest.mark.parametrize(
    ("symbol", "flags", "shown"),
    [
        ("IRON", {}, "IRON (unlisted)"),
        ("IRON", {"well_known": True}, "IRON"),
        ("USDC", {"impersonates": True}, f"USDC (not the well-known token, {short(IRON)})"),
        ("eth", {}, f"eth ({short(IRON)})"),
        ("ETH; 0xabc lost $9 M", {}, f"of token {short(IRON)}"),
        ("evil.com", {}, f"of token {short(IRON)}"),
        ("<b>", {}, f"of token {short(IRON)}"),
        ("@everyone", {}, f"of token {short(IRON)}"),
        ("1000", {}, f"of token {short(IRON)}"),
        ("", {}, f"of token {short(IRON)}"),
    ],
)  # fmt: skip
def test_a_symbol_says_no_more_than_a_name(symbol: str, flags: dict[str, bool], shown: str) -> None:
    tokens = {IRON: TokenView(IRON, symbol, symbol, 6, **flags)}
    got = sentence(evidence_of([Moved(IRON, SENDER, OTHER, 10**6)]), tokens)
    assert names_shortened(got) == f"S sent 1 {shown} to O."


def test_two_tokens_of_one_symbol_are_told_apart() -> None:
    tokens = {t: TokenView(t, "", "DAI", 18, well_known=True) for t in (WETH, GOLD)}
    moved = [Moved(WETH, SENDER, OTHER, ETHER), Moved(GOLD, SENDER, OTHER, ETHER)]
    got = sentence(evidence_of(moved), tokens)
    assert f"1 DAI ({short(WETH)}) and 1 DAI ({short(GOLD)})" in got


def test_without_a_list_of_tokens_none_is_marked_as_unlisted() -> None:
    evidence = evidence_of([Moved(IRON, SENDER, OTHER, 10**6)])
    assert "1 IRON to" in sentence(evidence, TOKENS, has_token_list=False)


addresses = st.sampled_from([*ACCOUNTS, *(f"0x{n:040x}" for n in range(500, 505))])
token_addresses = st.sampled_from([f"0x{n:040x}" for n in range(100, 112)])
amounts = st.one_of(st.integers(0, 100), st.integers(0, 2**256 - 1), st.just(ETHER))
views = st.builds(
    TokenView,
    st.just(""),
    st.text(max_size=32),
    st.one_of(st.text(max_size=32), st.sampled_from(["USDC", "ETH", "W" * 16])),
    st.one_of(st.none(), st.integers(0, 255)),
    impersonates=st.booleans(),
)


DUST_GAIN = [
    Moved(WETH, ZERO_ADDRESS, LENDER, 1),
    Moved(WETH, SENDER, ZERO_ADDRESS, ETHER),
    Moved(WETH, HUB, ZERO_ADDRESS, ETHER),
]


@example(DUST_GAIN, {}, None, None, None, None, {}, False)
@given(
    st.lists(st.builds(Moved, token_addresses, addresses, addresses, amounts), min_size=1),
    st.dictionaries(token_addresses, views),
    st.one_of(st.none(), st.lists(st.builds(Ether, addresses, addresses, amounts), max_size=5)),
    st.one_of(st.none(), addresses),
    st.one_of(st.none(), st.integers(0, 2**63)),
    st.one_of(st.none(), st.floats(0, 1e9)),
    st.dictionaries(token_addresses, st.floats(1e-18, 1e7), max_size=5),
    st.booleans(),
)
def test_whatever_moves_it_is_one_short_line_of_plain_text(
    transfers, tokens, native, to, nonce, age, prices, arbitrage
) -> None:
    tokens = {address: TokenView(address, *view_fields(view)) for address, view in tokens.items()}
    evidence = evidence_of(
        transfers, native=native, to=to, nonce=nonce, account_age_minutes=age, value=7
    )
    known = {token: Price(usd, "test") for token, usd in prices.items()}
    money = money_of(
        evidence.gains, known, tokens, wrapped_native=WETH, gas_cost=5, is_arbitrage=arbitrage
    )
    for worth in (None, money):
        got = sentence(evidence, tokens, money=worth, is_arbitrage=arbitrage)
        assert len(got) <= MAX_LENGTH
        assert re.fullmatch(r"[A-Za-z0-9 .,;:()$+…-]+\.", got)
        assert not re.search(r"\d{17}", got)  # no raw integer


def view_fields(view: TokenView) -> tuple:
    return view.name, view.symbol, view.decimals, view.impersonates


# Amounts in few characters


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0", "0"), ("0.0000001", "less than 0.000001"), ("0.000314159", "0.000314"),
        ("0.99996", "1"), ("3279.4", "3,279"), ("9999.4", "9,999"), ("9999.9", "10 k"),
        ("998765", "999 k"), ("999999", "1 M"), ("4321000", "4.32 M"), ("1e12", "1 T"),
        ("1e15", "1.00e+15"), ("12.3456", "12.35"),
    ],
)  # fmt: skip
def test_amounts_keep_their_leading_digits(value: str, shown: str) -> None:
    assert compact(Decimal(value)) == shown


@given(st.decimals(0, 10**80, allow_nan=False))
def test_an_amount_is_short_and_not_zero_unless_it_is(value: Decimal) -> None:
    shown = compact(value)
    assert len(shown) <= 18
    assert (shown == "0") == (value == 0)


def test_dollars_and_durations() -> None:
    assert [dollars(usd) for usd in (0.001, 0.5, 22.0, 3279.4, 12.1e6)] == [
        "less than $0.01", "$0.5", "$22", "$3,279", "$12.1 M",
    ]  # fmt: skip
    assert [duration(m) for m in (0.5, 1.9, 59.9, 61, 1440 * 5)] == [
        "less than a minute", "1 minute", "59 minutes", "1 hour", "5 days",
    ]  # fmt: skip


@given(st.floats(0, 100))
def test_a_percentage_is_100_only_if_it_is(value: float) -> None:
    assert (float(percentage(value)) == 100) == (value == 100)
    assert [percentage(value) for value in (99.96, 50.04, 100.0)] == ["99.96", "50.0", "100.0"]
    assert than_training(99.96) == "than 99.96% of the training transactions"
    assert than_training(100.0) == "than all of the training transactions"


def test_prices_of_what_changed_hands_are_kept_for_other_accounts() -> None:
    evidence = evidence_of(THEFT)
    money = priced(evidence, gold=2.0)
    assert money.usd(GOLD, 500) == 10.0
    assert money.usd(WETH, 500) is None
    assert money.usd(NATIVE, 1) is None
    assert money.as_json()["prices"] == {GOLD: {"usd": 2.0, "decimals": 2, "source": "test"}}
    assert money.as_json()["side"] == sorted([SENDER, HUB])


WRAPPER = network(1).wrapped_native or ""


def ether(*moved: tuple[str, str, int]) -> list[NativeTransfer]:
    return [NativeTransfer(payer, payee, amount, -1) for payer, payee, amount in moved]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"native": ether((SENDER, HUB, ETHER))}, "SENDER sent 1 ETH to HUB."),
        ({"native": None, "value": ETHER}, "SENDER sent 1 ETH to HUB."),
        ({"native": ether((SENDER, HUB, 1))}, "SENDER sent less than 0.000001 ETH to HUB."),
        (
            {"native": ether((SENDER, HUB, ETHER), (HUB, OTHER, ETHER // 2))},
            "SENDER sent 1 ETH to 2 accounts.",
        ),
        ({"native": ether((HUB, SENDER, ETHER))}, "SENDER gained 1 ETH; HUB lost 1 ETH."),
        ({"native": ether((HUB, OTHER, ETHER))}, "SENDER moved 1 ETH from HUB to OTHER."),
        (
            {"native": ether((SENDER, WRAPPER, ETHER)), "to": WRAPPER},
            "SENDER gave 1 ETH and received 1 WETH.",
        ),
        ({"native": ether((SENDER, SENDER, ETHER)), "value": ETHER}, None),
        ({"native": ether((HUB, OTHER, 5), (OTHER, HUB, 5))}, None),
        ({"native": None}, None),
    ],
)
def test_a_transaction_of_ether_alone_says_who_pays_whom(
    fields: dict[str, Any], told: str | None
) -> None:
    usual = {"to": HUB, "nonce": 50, "value": 0, "approvals": ()}
    transaction = TransactionFields(
        tx_hash="", sender=SENDER, timestamp=0, block_number=1, gas_cost=0, **(usual | fields)
    )
    pipeline: Any = SimpleNamespace(chain_id=1, names=SimpleNamespace(name_of=nameless))
    for name, address in {"SENDER": SENDER, "HUB": HUB, "OTHER": OTHER}.items():
        told = told and told.replace(name, short(address))
    assert native_summary(pipeline, transaction) == told


def test_of_amounts_whose_worth_is_unknown_the_largest_are_named() -> None:
    batch = [Moved(TIN, POOL, LENDER, 5), Moved(TIN, VICTIM, OTHER, 500)]
    said = names_shortened(told(batch, prices={}))
    assert "O gained an unknown amount" in said
    assert "V lost an unknown amount" in said
