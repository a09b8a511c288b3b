"""Symbols of well-known tokens that another token bears."""

import json

import pytest

from src.chain.facts import UNREADABLE_SYMBOL, token_info
from src.chain.lookups.build import build_lookups
from src.chain.price_feeds import BITCOIN, STABLECOINS
from src.chain.well_known import TOKEN_LIST_PATH, load_well_known_tokens
from tests.chain.lookups.world import TOKENS, USDC


@pytest.mark.parametrize(
    "symbol",
    [
        "USDC",
        "usdc",
        "USD\u0421",
        "\uff35\uff33\uff24\uff23",
        "US\u200bDC",
        "\u00dcSDC",
        "U S D C",
        "USDC\ufe0f",
        "US\u180bD\U000e0100C",
        "USD\u0301C",
        "USD\u20ddC",  # a circle around the letter
        "USD\u0e31C",  # a vowel sign of another script, above the letter
        "USD\u0903C",  # a sign of another script, beside the letter
        "US\u0110C",  # with a stroke
        "\u1d1c\ua731\u1d05\u1d04",  # small capitals
    ],
)
def test_fake_token_with_a_well_known_symbol_is_seen(symbol: str) -> None:
    lookups = build_lookups()
    assert lookups.well_known.is_impersonated(symbol, TOKENS[0])
    assert not lookups.well_known.is_impersonated(symbol, USDC)
    lookups.close()


@pytest.mark.parametrize("filler", [" ", "\u200b", "\U000e0061"])
@pytest.mark.parametrize("length", [127, 128, 2_000])
def test_a_symbol_cannot_be_hidden_behind_what_a_wallet_does_not_show(
    filler: str, length: int
) -> None:
    symbol = token_info("node", "USD Coin", filler * length + "USDC", 6).symbol
    assert load_well_known_tokens(1).is_impersonated(symbol, TOKENS[0])


@pytest.mark.parametrize("symbol", ["", "UNHEARDOF", "USDCC", "\u67f4\u72ac"])
def test_other_symbols_impersonate_nobody(symbol: str) -> None:
    lookups = build_lookups()
    assert not lookups.well_known.is_impersonated(symbol, TOKENS[0])
    lookups.close()


@pytest.mark.parametrize(
    ("chain_id", "genuine"),
    [
        (56, "0x8ac76a51cc950d9822d68b83fe1ad97b32cd580d"),
        (137, "0x2791bca1f2de4661ed88a30c99a7a9449aa84174"),  # bridged
        (137, "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359"),
        (8453, "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
        (42161, "0xaf88d065e77c8cc2239327c5edb3a432268e5831"),
    ],
)
def test_each_chain_has_its_own_usdc(chain_id: int, genuine: str) -> None:
    tokens = load_well_known_tokens(chain_id)
    assert not tokens.is_impersonated("USDC", genuine)
    assert tokens.is_impersonated("USDC", TOKENS[0])
    assert tokens.is_impersonated("USD\u0421", USDC)  # mainnet's address says nothing here


def test_a_chain_without_a_list_has_no_impersonations() -> None:
    tokens = load_well_known_tokens(424_242)
    assert len(tokens) == 0
    assert not tokens.is_impersonated("USDC", TOKENS[0])


def test_an_unreadable_symbol_may_be_any_of_the_list() -> None:
    tokens = load_well_known_tokens(1)
    duck = "0x92e187a03b6cd19cb6af293ba17f2745fd2357d5"  # a published namesake
    assert tokens.is_impersonated(UNREADABLE_SYMBOL, TOKENS[0])
    assert tokens.is_impersonated(UNREADABLE_SYMBOL, duck)
    assert not tokens.is_impersonated(UNREADABLE_SYMBOL, USDC)
    assert not load_well_known_tokens(424_242).is_impersonated(UNREADABLE_SYMBOL, TOKENS[0])


def test_a_published_namesake_is_not_accused_under_its_own_symbol_alone() -> None:
    tokens = load_well_known_tokens(1)
    (listed, _), duck = tokens.with_symbol("DUCK")[0], "0x92e187a03b6cd19cb6af293ba17f2745fd2357d5"
    assert listed != duck  # two projects share the symbol
    assert not tokens.is_impersonated("DUCK", duck)
    assert tokens.is_impersonated("DUCK", TOKENS[0])
    assert tokens.is_impersonated("USDC", duck)  # a contract may change its symbol
    assert tokens.get(duck) is None  # it has no other privilege of a listed token


def test_no_list_excuses_another_token_with_the_symbol_of_money() -> None:
    lists = json.loads(TOKEN_LIST_PATH.read_text(encoding="utf-8"))["namesakes"]
    symbols = {row[1] for rows in lists.values() for row in rows.values()}
    assert symbols
    assert symbols.isdisjoint({*STABLECOINS, *BITCOIN, "WETH", "stETH", "LINK", "AAVE"})
