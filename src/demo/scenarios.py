"""The demo's transactions: everyday ones, two attempts to deceive, one theft."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from src.chain.transfers import Transfer, decode_transfer
from src.demo import world as stage
from src.demo.world import DAI, LINK, USDC, USDT, WBTC, WETH, TokenSpec, World

BRIDGE_MARKER: Final = "-!*forta_finding*!-:"
"""Ends a finding between the bot's Python and Node sides: a hostile name for a token."""

NO_FINDING: Final = "NO FINDING"

# 20 receivers of wages, and what each gets in USDC.
_STAFF: Final = [f"0x{0x5AFE << 144 | 7919 * i:040x}" for i in range(1, 21)]
_WAGES: Final = [2_400 + 135 * (i * i % 17) for i in range(1, 21)]

_ROUNDS: Final = 3
_DEPOSIT_PER_ROUND: Final = 16_000
_FLASH_LOAN: Final = ((WETH, 5_000), (USDC, 5_000_000), (DAI, 2_000_000))
# Borrowed from the pool, and what it is turned into before it is taken away.
_LOOT: Final = ((USDC, USDC), (USDT, USDC), (DAI, DAI), (WETH, WETH), (WBTC, WETH))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One transaction to play."""

    key: str  # its short name
    title: str  # a short description
    # The required finding ("NORMAL", "ANOMALOUS", `NO_FINDING`); None if either is acceptable.
    expected: str | None
    play: Callable[[World], dict[str, Any]]  # sends it and returns the receipt


@dataclass(frozen=True, slots=True)
class Played:
    """A scenario with its transaction: hash, sender and the transfers that the chain recorded."""

    scenario: Scenario
    transaction_hash: str
    sender: str
    transfers: Sequence[Transfer]


def play(world: World, scenarios: Sequence[Scenario]) -> list[Played]:
    """Send every scenario's transaction, in order.

    Raises:
        ChainError: the chain refused one, or one reverted.
    """
    return [_played(scenario, scenario.play(world)) for scenario in scenarios]


def _played(scenario: Scenario, receipt: dict[str, Any]) -> Played:
    decoded = (
        decode_transfer(log["address"], log["topics"], log["data"], int(log["logIndex"], 16))
        for log in receipt["logs"]
    )
    transfers = [transfer for transfer in decoded if transfer is not None]
    return Played(scenario, receipt["transactionHash"], receipt["from"].lower(), transfers)


def _pay(world: World, sender: str, symbol: str, to: str, amount: float) -> dict[str, Any]:
    return _transfer(world, sender, world.tokens[symbol], to, amount)


def _transfer(world: World, sender: str, spec: TokenSpec, to: str, amount: float) -> dict[str, Any]:
    data = world.code["Token"].call("transfer(address,uint256)", to, spec.units(amount))
    return world.chain.send(sender, to=spec.address, data=data)


def _swap(world: World, sender: str, amount: float, *symbols: str) -> dict[str, Any]:
    path = [world.tokens[symbol] for symbol in symbols]
    stage.approve(world, path[0], sender, world.router)
    data = world.code["Router"].call(
        "swap(uint256,uint256,address[],address)",
        path[0].units(amount),
        0,
        [spec.address for spec in path],
        sender,
    )
    return world.chain.send(sender, to=world.router, data=data)


def _liquidity(world: World) -> dict[str, Any]:
    provider = world.people.provider
    usdc, weth = world.tokens[USDC], world.tokens[WETH]
    for spec in (usdc, weth):
        stage.approve(world, spec, provider, world.router)
    data = world.code["Router"].call(
        "addLiquidity(address,address,uint256,uint256,address)",
        usdc.address,
        weth.address,
        usdc.units(35_000),
        weth.units(10),
        provider,
    )
    return world.chain.send(provider, to=world.router, data=data)


def _collateral(world: World) -> dict[str, Any]:
    provider, token = world.people.provider, world.governance_token
    stage.approve(world, token, provider, world.pool)
    data = world.code["LendingPool"].call("deposit(uint256)", token.units(1_000))
    return world.chain.send(provider, to=world.pool, data=data)


def _payroll(world: World) -> dict[str, Any]:
    treasury, usdc = world.people.treasury, world.tokens[USDC]
    stage.approve(world, usdc, treasury, world.disperse)
    amounts = [usdc.units(wage) for wage in _WAGES]
    signature = "disperse(address,address[],uint256[])"
    data = world.code["Disperse"].call(signature, usdc.address, _STAFF, amounts)
    return world.chain.send(treasury, to=world.disperse, data=data)


def _counterfeit(world: World) -> dict[str, Any]:
    spammer, usdc = world.people.spammer, world.tokens[USDC]
    fake = stage.new_token(
        world.chain, world.code, spammer, usdc.name, usdc.symbol, decimals=usdc.decimals
    )
    stage.mint(world, fake, spammer, 5_000_000)
    return _transfer(world, spammer, fake, world.people.alice, 5_000_000)


def _marker(world: World) -> dict[str, Any]:
    spammer = world.people.spammer
    hostile = stage.new_token(world.chain, world.code, spammer, BRIDGE_MARKER, BRIDGE_MARKER)
    stage.mint(world, hostile, spammer, 10**6)
    return _transfer(world, spammer, hostile, world.people.bob, 10)


def _theft(world: World) -> dict[str, Any]:
    """The whole attack is one transaction; the contract that it needs is deployed before."""
    chain, thief = world.chain, world.people.thief
    contract = chain.deploy(
        thief,
        world.code["PriceAttack"],
        ("address", "address", "address"),
        world.lender,
        world.router,
        world.pool,
    )
    return chain.send(thief, to=contract, data=attack_data(world, "PriceAttack"))


def attack_data(world: World, contract: str) -> str:
    """The call data of the theft, of one of the contracts that commit it."""
    tokens = world.tokens
    return world.code[contract].call(
        "attack(address[],uint256[],uint256,uint256,address[],address[])",
        [tokens[symbol].address for symbol, _ in _FLASH_LOAN],
        [tokens[symbol].units(amount) for symbol, amount in _FLASH_LOAN],
        world.governance_token.units(_DEPOSIT_PER_ROUND),
        _ROUNDS,
        [tokens[stolen].address for stolen, _ in _LOOT],
        [tokens[wanted].address for _, wanted in _LOOT],
    )


SCENARIOS: Final = (
    Scenario("ether", "0.1 ETH between friends", NO_FINDING,
             lambda w: w.chain.send(w.people.bob, to=w.people.alice, value=10**17)),
    Scenario("usdc", "Payment of 250 USDC", "NORMAL",
             lambda w: _pay(w, w.people.alice, USDC, w.people.bob, 250)),
    Scenario("usdt", "Payment of 1,180.50 USDT", "NORMAL",
             lambda w: _pay(w, w.people.bob, USDT, w.people.carol, 1_180.5)),
    Scenario("link", "Transfer of 42 LINK", "NORMAL",
             lambda w: _pay(w, w.people.carol, LINK, w.people.alice, 42)),
    Scenario("swap", "Swap: USDC to WETH", "NORMAL",
             lambda w: _swap(w, w.people.alice, 1_500, USDC, WETH)),
    Scenario("route", "Swap: DAI to WETH to WBTC", None,
             lambda w: _swap(w, w.people.carol, 2_000, DAI, WETH, WBTC)),
    Scenario("liquidity", "Adding liquidity to a market", None, _liquidity),
    Scenario("collateral", "Depositing collateral", None, _collateral),
    Scenario("payroll", "Wages for 20 people at once", None, _payroll),
    Scenario("counterfeit", "Counterfeit USDC as spam", None, _counterfeit),
    Scenario("marker", "Token with a hostile name", None, _marker),
    Scenario("theft", "Flash loan empties a lending pool", "ANOMALOUS", _theft),
)  # fmt: skip
"""All scenarios of the demo, in order."""
