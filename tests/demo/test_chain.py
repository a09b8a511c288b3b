"""The local chain, and the scenarios that are played on it."""

import socket
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from src.chain.networks import networks
from src.chain.well_known import load_well_known_tokens
from src.demo import anvil as anvil_module
from src.demo.anvil import Chain, ChainError, anvil
from src.demo.contracts import Contract
from src.demo.scenarios import SCENARIOS, Played, play
from src.demo.world import GENESIS, USDC, World, build, tokens_on
from tests.demo.chains import answers, by_key


def test_a_missing_anvil_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(anvil_module, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChainError, match="npm ci"), anvil(timestamp=GENESIS):
        pass


@pytest.mark.integration
def test_the_chain_ends_with_its_block_even_after_an_error() -> None:
    urls = []

    def fail() -> None:
        with anvil(timestamp=GENESIS) as chain:
            urls.append(chain.url)
            assert answers(chain.url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not answers(urls[0])


@pytest.mark.integration
def test_a_taken_port_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ChainError, match="--port"), anvil(timestamp=GENESIS, port=port):
            pass


@pytest.mark.integration
def test_a_transaction_that_reverts_is_an_error(code: dict[str, Contract]) -> None:
    with anvil(timestamp=GENESIS) as chain:
        token = chain.deploy(chain.accounts[0], code["Token"])
        data = code["Token"].call("transfer(address,uint256)", chain.accounts[1], 1)
        with pytest.raises(ChainError, match="reverted"):
            chain.send(chain.accounts[0], to=token, data=data)


@pytest.mark.integration
def test_well_known_tokens_describe_themselves_at_their_real_addresses(
    stage: tuple[World, list[Played]],
) -> None:
    world = stage[0]
    token = world.code["Token"]
    for spec in world.tokens.values():
        described = (
            *world.chain.call(spec.address, token.call("name()"), "string"),
            *world.chain.call(spec.address, token.call("symbol()"), "string"),
            *world.chain.call(spec.address, token.call("decimals()"), "uint8"),
        )
        assert described == (spec.name, spec.symbol, spec.decimals)


@pytest.mark.integration
def test_every_run_plays_the_same_transactions(
    stage: tuple[World, list[Played]], code: dict[str, Contract]
) -> None:
    with anvil(timestamp=GENESIS) as chain:
        again = play(build(chain, code), SCENARIOS)
    assert [p.transaction_hash for p in again] == [p.transaction_hash for p in stage[1]]


@pytest.mark.integration
def test_accounts_have_an_age_that_a_search_of_the_chain_finds(
    stage: tuple[World, list[Played]],
) -> None:
    def nonce(chain: Chain, account: str, block: int) -> int:
        return int(chain.rpc("eth_getTransactionCount", account, hex(block)), 16)

    world = stage[0]
    assert nonce(world.chain, world.people.alice, 0) > 0
    head = int(world.chain.rpc("eth_blockNumber"), 16)
    assert nonce(world.chain, world.people.thief, head // 2) == 0
    assert nonce(world.chain, world.people.thief, head) > 0


@pytest.mark.integration
def test_the_counterfeit_bears_the_name_but_not_the_address(
    stage: tuple[World, list[Played]],
) -> None:
    world = stage[0]
    (transfer,) = by_key(stage, "counterfeit").transfers
    assert transfer.token != world.tokens[USDC].address
    symbol = world.code["Token"].call("symbol()")
    assert world.chain.call(transfer.token, symbol, "string") == ("USDC",)


@pytest.mark.integration
def test_the_theft_has_the_shape_of_one(stage: tuple[World, list[Played]]) -> None:
    world, theft = stage[0], by_key(stage, "theft")
    assert len(theft.transfers) >= 30
    net: dict[tuple[str, str], int] = Counter()
    pairs: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for transfer in theft.transfers:
        net[transfer.sender, transfer.token] -= transfer.amount
        net[transfer.recipient, transfer.token] += transfer.amount
        pairs[transfer.token].add((transfer.sender, transfer.recipient))
    assert len(pairs) >= 5
    # The lender has everything back and its fee; the pool has lost all; the thief has gained.
    assert all(net[world.lender, token] > 0 for token in pairs if (world.lender, token) in net)
    balance = world.code["Token"].call("balanceOf(address)", world.pool)
    usdc = world.tokens[USDC]
    assert world.chain.call(usdc.address, balance, "uint256") == (0,)
    assert net[world.people.thief, usdc.address] > usdc.units(1_000_000)
    there_and_back = [token for token, hops in pairs.items() if hops & {(b, a) for a, b in hops}]
    assert len(there_and_back) >= 3


@pytest.mark.parametrize("chain_id", sorted(networks()))
def test_tokens_have_the_addresses_and_decimals_of_the_chain(chain_id: int) -> None:
    listed = load_well_known_tokens(chain_id)
    for symbol, spec in tokens_on(chain_id).items():
        if listed.with_symbol(symbol):
            known = listed.get(spec.address)
            assert known is not None
            assert (known.symbol, known.decimals) == (symbol, spec.decimals)
