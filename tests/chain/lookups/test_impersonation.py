"""Symbols of well-known tokens that another token bears."""

import pytest

from src.chain.lookups.build import build_lookups
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


def test_other_chains_have_no_built_in_list() -> None:
    lookups = build_lookups(chain_id=137)
    assert lookups.well_known.get(USDC) is None
    assert not lookups.well_known.is_impersonated("USDC", TOKENS[0])
    lookups.close()
