"""The chains' records and what is claimed of a chain without one."""

import json
import re
from pathlib import Path

import pytest

from src.chain.names.book import PUBLISHED_PATH
from src.chain.names.methods import METHODS_PATH
from src.chain.networks import NETWORKS_PATH, described, network, networks
from src.chain.well_known import LOOK_ALIKES_PATH, TOKEN_LIST_PATH, load_well_known_tokens

SCRIPT = Path("scripts/build_chain_data.mjs")
NAMES_SCRIPT = Path("scripts/address_names.mjs")
ADDRESS = re.compile(r"0x[0-9a-f]{40}")
CHAINS = {
    1: "ethereum",
    10: "optimism",
    56: "bsc",
    100: "gnosis",
    137: "polygon",
    250: "fantom",
    5000: "mantle",
    8453: "base",
    42161: "arbitrum",
    43114: "avalanche",
    59144: "linea",
    81457: "blast",
    534352: "scroll",
}

FEEDS = {
    "ethereum": "0x5f4ec3df9cbd43714fe2740f5e3616155c5b8419",
    "optimism": "0x13e3ee699d1909e989722e753853ae30b17e08c5",
    "bsc": "0x0567f2323251f0aab15c8dfb1967e4e8a7d42aee",
    "polygon": "0xab594600376ec9fd91f8e885dadf0ce036862de0",
    "base": "0x71041dddad3595f9ced3dccfbe3d1f4b0a16bb70",
    "arbitrum": "0x639fe6ab55c921f74e7fac1ee960c0b6293ba612",
    "avalanche": "0x0a77230d17318075983913bc2145db16c7366156",
}

FILES = [NETWORKS_PATH, TOKEN_LIST_PATH, LOOK_ALIKES_PATH, PUBLISHED_PATH, METHODS_PATH]


def test_the_chains_with_a_record() -> None:
    assert {chain_id: known.name for chain_id, known in networks().items()} == CHAINS


@pytest.mark.parametrize("chain_id", CHAINS)
def test_a_record_is_complete(chain_id: int) -> None:
    known = network(chain_id)
    assert known.seconds_per_block is not None
    assert 0.1 < known.seconds_per_block <= 15
    assert known.explorer is not None
    assert re.fullmatch(r"https://[a-z.]+", known.explorer)
    assert re.fullmatch(r"[A-Z]{2,5}", known.native_symbol)
    assert known.wrapped_native is not None
    tokens = load_well_known_tokens(chain_id)
    wrapped = tokens.get(known.wrapped_native)
    assert wrapped is not None
    assert wrapped.decimals == 18
    assert wrapped.symbol.upper() == f"W{known.native_symbol}"
    assert len(tokens) >= 5
    for feed in (known.native_feed, known.bitcoin_feed):
        assert feed is None or ADDRESS.fullmatch(feed)
    # Feeds as Chainlink publishes them, so that the script takes no other oracle for one.
    assert FEEDS.get(known.name, known.native_feed) == known.native_feed


@pytest.mark.parametrize("path", FILES)
def test_the_files_are_what_the_script_writes(path: Path) -> None:
    """With the versions that the script names, so that one is not raised without the other."""
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["made_by"] == str(SCRIPT)
    script = SCRIPT.read_text(encoding="utf-8") + NAMES_SCRIPT.read_text(encoding="utf-8")
    for source in content["sources"]:
        assert f'package: "{source["package"]}", version: "{source["version"]}"' in script
        assert source["license"] in ("MIT", "ISC", "Apache-2.0")
    assert path.name in script


def test_every_listed_token_is_an_address_with_a_symbol() -> None:
    lists = json.loads(TOKEN_LIST_PATH.read_text(encoding="utf-8"))["tokens"]
    assert [int(chain_id) for chain_id in lists] == sorted(CHAINS)
    for tokens in lists.values():
        for address, (name, symbol, decimals) in tokens.items():
            assert ADDRESS.fullmatch(address)
            assert name and symbol  # noqa: PT018
            assert 0 <= decimals <= 36


def test_a_chain_without_a_record_claims_nothing() -> None:
    unknown = network(424_242)
    assert unknown.name == "unknown"
    assert (unknown.seconds_per_block, unknown.explorer, unknown.wrapped_native) == (None,) * 3
    assert described(424_242) == "Chain 424242 (no record)"
    assert described(8453) == "Base (chain 8453)"
