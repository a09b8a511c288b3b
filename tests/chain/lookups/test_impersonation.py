"""Symbols of well-known tokens that another token bears."""

import pytest

from src.chain.lookups.build import build_lookups
from src.chain.well_known import load_well_known_tokens
from tests.chain.lookups.world import TOKENS, USDC


@pytest.mark.parametrize(
    "symbol",
    ["USDC", "usdc", "USD\u0421", "\uff35\uff33\uff24\uff23", "US\u200bDC", "\u00dcSDC", "U S D C"],
)
def test_fake_token_with_a_well_known_symbol_is_seen(symbol: str) -> None:
    lookups = build_lookups()
    assert lookups.well_known.is_impersonated(symbol, TOKENS[0])
    assert not lookups.well_known.is_impersonated(symbol, USDC)
    lookups.close()


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
