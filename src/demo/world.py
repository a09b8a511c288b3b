"""The demo's initial state: well-known tokens, markets, a lender, a lending pool, old accounts.

Tokens are at the addresses that they have on the real chain, because the bot identifies tokens by
address.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from src.chain.well_known import load_well_known_tokens
from src.demo.anvil import Chain
from src.demo.contracts import Contract

GENESIS: Final = 1_704_067_200
"""Time stamp of the chain's first block: 2024-01-01 00:00 UTC."""

_QUIET_BLOCKS: Final = 300
_QUIET_SECONDS: Final = 12 * 3600
"""Empty blocks, twelve hours apart: 150 days, so that accounts have an age."""

BLOCK_SECONDS: Final = 600
"""By which the bot counts a day of this chain: 144 blocks, which end in its quiet months."""

_UNLIMITED: Final = 2**256 - 1


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """A token: its address on the demo's chain and a rough price in US dollars."""

    address: str
    name: str
    symbol: str
    decimals: int
    price: float

    def units(self, amount: float) -> int:
        """An amount of whole tokens in the token's smallest units."""
        return round(amount * 10**6) * int(10**self.decimals) // 10**6

    def pool_price(self) -> int:
        """The price in `LendingPool`'s form: dollars with 18 decimals for 10**18 smallest units."""
        return round(self.price * 100) * int(10 ** (52 - self.decimals))


USDC: Final = "USDC"
USDT: Final = "USDT"
DAI: Final = "DAI"
WETH: Final = "WETH"
WBTC: Final = "WBTC"
LINK: Final = "LINK"
_MAINNET: Final = (
    TokenSpec("0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "USD Coin", USDC, 6, 1),
    TokenSpec("0xdac17f958d2ee523a2206206994597c13d831ec7", "Tether USD", USDT, 6, 1),
    TokenSpec("0x6b175474e89094c44da98b954eedeac495271d0f", "Dai Stablecoin", DAI, 18, 1),
    TokenSpec("0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", "Wrapped Ether", WETH, 18, 3_500),
    TokenSpec("0x2260fac5e5542a773aa44fbcfedf7c193bc2c599", "Wrapped BTC", WBTC, 8, 65_000),
    TokenSpec("0x514910771af9ca656af840dff83e8264ecf986ca", "ChainLink Token", LINK, 18, 15),
)

# Both sides of each market in whole tokens: the prices above.
_MARKETS: Final = (
    (USDC, WETH, 35_000_000, 10_000),
    (DAI, WETH, 17_500_000, 5_000),
    (WBTC, WETH, 500, 500 * 65_000 / 3_500),
    (USDT, USDC, 20_000_000, 20_000_000),
)
_LENT_OUT: Final = (
    (USDC, 6_000_000),
    (USDT, 4_000_000),
    (DAI, 3_000_000),
    (WETH, 1_200),
    (WBTC, 60),
)
_FLASH_LENT: Final = ((WETH, 40_000), (USDC, 60_000_000), (DAI, 40_000_000))


@dataclass(frozen=True, slots=True)
class People:
    """The accounts that act, by role."""

    deployer: str
    alice: str
    bob: str
    carol: str
    provider: str
    treasury: str
    spammer: str
    thief: str


@dataclass(frozen=True, slots=True)
class World:
    """Everything deployed: contracts' code by name and addresses by role."""

    chain: Chain
    code: Mapping[str, Contract]
    people: People
    router: str
    disperse: str
    lender: str
    pool: str
    tokens: Mapping[str, TokenSpec]
    governance_token: TokenSpec


def tokens_on(chain_id: int) -> dict[str, TokenSpec]:
    """The demo's well-known tokens by symbol, as the built-in list of that chain has them.

    A token that the list lacks is where it is on mainnet, and nobody knows it there.
    """
    listed = load_well_known_tokens(chain_id)
    tokens = {spec.symbol: spec for spec in _MAINNET}
    for symbol, spec in tokens.items():
        # Bridged tokens of the same symbol have other names.
        known = sorted(listed.with_symbol(symbol), key=lambda one: one[1].name != spec.name)
        for address, info in known[:1]:
            if info.decimals is not None:
                tokens[symbol] = replace(spec, address=address, decimals=info.decimals)
    return tokens


def build(chain: Chain, code: Mapping[str, Contract]) -> World:
    """Deploy all contracts and let some time pass, so that accounts have an age.

    Raises:
        ChainError: the chain refused a transaction.
    """
    people = People(*chain.accounts[:8])
    # Numbers of earlier transactions, as a wallet, a trader, a company would have.
    for account, nonce in (
        (people.alice, 412),
        (people.bob, 57),
        (people.carol, 163),
        (people.provider, 1_204),
        (people.treasury, 2_890),
    ):
        chain.set_nonce(account, nonce)
    tokens = tokens_on(chain.id)
    for spec in tokens.values():
        chain.put_at(spec.address, code["Token"])
        _initialise(chain, code, people.deployer, spec)
    governance = new_token(chain, code, people.deployer, "Lantern Governance", "LTRN", price=35)
    router = chain.deploy(people.deployer, code["Router"])
    world = World(
        chain=chain,
        code=code,
        people=people,
        router=router,
        disperse=chain.deploy(people.deployer, code["Disperse"]),
        lender=chain.deploy(people.deployer, code["FlashLender"]),
        pool=_lending_pool(chain, code, people.deployer, router, governance, tokens),
        tokens=tokens,
        governance_token=governance,
    )
    for symbol_a, symbol_b, amount_a, amount_b in _MARKETS:
        token_a, token_b = tokens[symbol_a], tokens[symbol_b]
        _create_pair(chain, code, people.deployer, router, token_a, token_b)
        _provide(world, token_a, token_b, amount_a, amount_b)
    _provide(world, governance, tokens[WETH], 200_000, 2_000)
    for holder, holdings in ((world.pool, _LENT_OUT), (world.lender, _FLASH_LENT)):
        for symbol, amount in holdings:
            mint(world, tokens[symbol], holder, amount)
    _fill_wallets(world)
    chain.mine(_QUIET_BLOCKS, _QUIET_SECONDS)
    return world


def new_token(
    chain: Chain,
    code: Mapping[str, Contract],
    sender: str,
    name: str,
    symbol: str,
    *,
    decimals: int = 18,
    price: float = 0,
) -> TokenSpec:
    """Deploy a token with any name at a new address."""
    address = chain.deploy(sender, code["Token"])
    spec = TokenSpec(address, name, symbol, decimals, price)
    _initialise(chain, code, sender, spec)
    return spec


def mint(world: World, spec: TokenSpec, to: str, amount: float) -> None:
    """Mint whole tokens for an account."""
    data = world.code["Token"].call("mint(address,uint256)", to, spec.units(amount))
    world.chain.send(world.people.deployer, to=spec.address, data=data)


def approve(world: World, spec: TokenSpec, owner: str, spender: str) -> None:
    """Let a contract take any amount of a token from its owner."""
    data = world.code["Token"].call("approve(address,uint256)", spender, _UNLIMITED)
    world.chain.send(owner, to=spec.address, data=data)


def _initialise(chain: Chain, code: Mapping[str, Contract], sender: str, spec: TokenSpec) -> None:
    signature = "initialise(string,string,uint8)"
    data = code["Token"].call(signature, spec.name, spec.symbol, spec.decimals)
    chain.send(sender, to=spec.address, data=data)


def _create_pair(
    chain: Chain,
    code: Mapping[str, Contract],
    sender: str,
    router: str,
    token_a: TokenSpec,
    token_b: TokenSpec,
) -> None:
    data = code["Router"].call("createPair(address,address)", token_a.address, token_b.address)
    chain.send(sender, to=router, data=data)


def _lending_pool(
    chain: Chain,
    code: Mapping[str, Contract],
    sender: str,
    router: str,
    governance: TokenSpec,
    tokens: Mapping[str, TokenSpec],
) -> str:
    weth = tokens[WETH]
    _create_pair(chain, code, sender, router, governance, weth)
    pair_of = code["Router"].call("pairOf(address,address)", governance.address, weth.address)
    (market,) = chain.call(router, pair_of, "address")
    priced = [tokens[symbol] for symbol, _ in _LENT_OUT]
    return chain.deploy(
        sender,
        code["LendingPool"],
        ("address", "address", "address", "address[]", "uint256[]"),
        governance.address,
        weth.address,
        market,
        [spec.address for spec in priced],
        [spec.pool_price() for spec in priced],
    )


def _provide(
    world: World, token_a: TokenSpec, token_b: TokenSpec, amount_a: float, amount_b: float
) -> None:
    deployer = world.people.deployer
    for spec, amount in ((token_a, amount_a), (token_b, amount_b)):
        mint(world, spec, deployer, amount)
        approve(world, spec, deployer, world.router)
    data = world.code["Router"].call(
        "addLiquidity(address,address,uint256,uint256,address)",
        token_a.address,
        token_b.address,
        token_a.units(amount_a),
        token_b.units(amount_b),
        deployer,
    )
    world.chain.send(deployer, to=world.router, data=data)


def _fill_wallets(world: World) -> None:
    people, tokens = world.people, world.tokens
    for spec, owner, amount in (
        (tokens[USDC], people.alice, 12_400),
        (tokens[DAI], people.alice, 3_100),
        (tokens[USDT], people.bob, 8_750),
        (tokens[WETH], people.bob, 4.2),
        (tokens[LINK], people.carol, 640),
        (tokens[DAI], people.carol, 5_200),
        (tokens[USDC], people.provider, 90_000),
        (tokens[WETH], people.provider, 25),
        (world.governance_token, people.provider, 3_000),
        (tokens[USDC], people.treasury, 250_000),
    ):
        mint(world, spec, owner, amount)
