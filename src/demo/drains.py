"""Plain drains by new contracts, and what honest contracts do that looks alike.

Whether a contract is new is no matter of transfers, so this is what `fresh_contract_drain` is for.
It runs in shadow: the demo shows what it would say.
"""

from typing import Any, Final

from src.demo import world as stage
from src.demo.scenarios import Scenario
from src.demo.world import DAI, USDC, USDT, World

BLOCK_SECONDS: Final = 600
"""What the bot counts a day of the demo's chain by: 144 blocks, which end in its quiet months."""

_TAKE: Final = "take(address,address,address)"
_RELEASE: Final = "release(address,address,uint256)"


def _drain(world: World) -> dict[str, Any]:
    thief, dai = world.people.thief, world.tokens[DAI]
    stage.approve(world, dai, world.people.carol, world.zap)
    contract = world.chain.deploy(thief, world.code["Drain"])
    data = world.code["Drain"].call(_TAKE, world.zap, dai.address, world.people.carol)
    return world.chain.send(thief, to=contract, data=data)


def _drain_at_once(world: World) -> dict[str, Any]:
    usdt, victim = world.tokens[USDT], world.people.bob
    stage.approve(world, usdt, victim, world.zap)
    data = world.code["DrainAtOnce"].creation(("address",) * 3, world.zap, usdt.address, victim)
    return world.chain.send(world.people.thief, data=data)


def _wallet(world: World) -> dict[str, Any]:
    usdc, bundler = world.tokens[USDC], world.people.provider
    wallet = _custody(world, world.entry_point)
    data = world.code["EntryPoint"].call(
        "execute(address,address,address,uint256)",
        wallet, usdc.address, world.people.alice, usdc.units(75),
    )  # fmt: skip
    return world.chain.send(bundler, to=world.entry_point, data=data)


def _bridge(world: World) -> dict[str, Any]:
    return _release(world, world.people.provider, world.bridge, world.people.alice)


def _vesting(world: World) -> dict[str, Any]:
    return _release(world, world.people.alice, _custody(world, world.people.alice), None)


def _sweep(world: World) -> dict[str, Any]:
    exchange = world.people.treasury
    return _release(world, exchange, _custody(world, exchange), world.people.provider)


def _custody(world: World, owner: str) -> str:
    """A contract deployed now that holds USDC for its owner."""
    contract = world.chain.deploy(world.people.deployer, world.code["Custody"], ("address",), owner)
    stage.mint(world, world.tokens[USDC], contract, 1_000)
    return contract


def _release(world: World, sender: str, contract: str, to: str | None) -> dict[str, Any]:
    usdc = world.tokens[USDC]
    data = world.code["Custody"].call(_RELEASE, usdc.address, to or sender, usdc.units(400))
    return world.chain.send(sender, to=contract, data=data)


DRAINS: Final = (
    Scenario("drain", "New contract empties an allowance", None, _drain, drains=True),
    Scenario("constructor", "The same by a constructor", None, _drain_at_once, drains=True),
    Scenario("wallet", "New smart wallet, by its entry point", None, _wallet, drains=False),
    Scenario("bridge", "Withdrawal from a bridge", None, _bridge, drains=False),
    Scenario("vesting", "Claim from a new vesting contract", None, _vesting, drains=False),
    Scenario("sweep", "Exchange sweeps a new deposit address", None, _sweep, drains=False),
)
"""In order; played after `scenarios.SCENARIOS`."""
