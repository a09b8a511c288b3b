"""A local chain of any id with two tokens called USDC: one at the genuine address, one not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from src.demo.anvil import Chain, anvil
from src.demo.contracts import compile_contracts
from src.demo.world import GENESIS

# Circle's list: https://developers.circle.com/stablecoins/usdc-contract-addresses, and Binance's.
GENUINE = {
    1: "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
    56: "0x8ac76a51cc950d9822d68b83fe1ad97b32cd580d",
    137: "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359",
    8453: "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    42161: "0xaf88d065e77c8cc2239327c5edb3a432268e5831",
}


class TwoUsdcs(NamedTuple):
    """The chain, and the hash of a transfer of each token."""

    chain: Chain
    genuine: str
    counterfeit: str


@contextmanager
def two_usdcs(chain_id: int) -> Iterator[TwoUsdcs]:
    """Where the id is no known chain's, the genuine one is at mainnet's address."""
    token = compile_contracts()["Token"]
    genuine = GENUINE.get(chain_id, GENUINE[1])
    with anvil(timestamp=GENESIS, chain_id=chain_id) as chain:
        owner, receiver = chain.accounts[:2]
        chain.put_at(genuine, token)
        counterfeit = chain.deploy(owner, token)
        for address in (genuine, counterfeit):
            initialise = token.call("initialise(string,string,uint8)", "USD Coin", "USDC", 6)
            chain.send(owner, to=address, data=initialise)
            chain.send(owner, to=address, data=token.call("mint(address,uint256)", owner, 10**12))
        # A token younger than a day says nothing of itself.
        chain.mine(1, 90_000)
        hashes = [
            chain.send(
                owner, to=address, data=token.call("transfer(address,uint256)", receiver, 7)
            )["transactionHash"]
            for address in (genuine, counterfeit)
        ]
        yield TwoUsdcs(chain, *hashes)
