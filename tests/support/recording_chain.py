"""A local chain with a bit of everything that a recording must keep."""

import json
from pathlib import Path
from typing import Any

from eth_abi.abi import encode

from src.demo.anvil import Chain

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "node_modules" / "@openzeppelin" / "contracts" / "build" / "contracts"
NAME, SYMBOL = "Recorded Token", "RCT"


def creation_code(contract: str, types: list[str], *arguments: Any) -> str:
    artifact = json.loads((ARTIFACTS / f"{contract}.json").read_text())
    return str(artifact["bytecode"]) + encode(types, arguments).hex()


def call_data(selector: str, types: list[str], *arguments: Any) -> str:
    return selector + encode(types, arguments).hex()


def play(chain: Chain) -> str:
    """Mine about twenty blocks; returns the ERC-20 contract's address."""
    one, two, three = chain.accounts[:3]
    code = creation_code(
        "ERC20PresetFixedSupply",
        ["string", "string", "uint256", "address"],
        NAME,
        SYMBOL,
        2**255,
        one,
    )
    token = str(chain.send(one, data=code)["contractAddress"])
    nft_code = creation_code(
        "ERC721PresetMinterPauserAutoId", ["string", "string", "string"], "Art", "ART", "ipfs://"
    )
    nft = str(chain.send(two, data=nft_code)["contractAddress"])
    chain.send(two, to=nft, data=call_data("0x6a627842", ["address"], three))  # mint
    chain.mine(3)
    transfer = call_data("0xa9059cbb", ["address", "uint256"], two, 10**18)
    chain.rpc("evm_setAutomine", False)
    for _ in range(3):
        nonce = int(chain.rpc("eth_getTransactionCount", one, "latest"), 16)
        kinds: list[dict[str, Any]] = [
            {"gasPrice": hex(50 * 10**9)},
            {"gasPrice": hex(40 * 10**9), "accessList": [{"address": token, "storageKeys": []}]},
            {"maxFeePerGas": hex(30 * 10**9), "maxPriorityFeePerGas": hex(10**9)},
            # Reverts: more than there is.
            {"data": call_data("0xa9059cbb", ["address", "uint256"], two, 2**256 - 1)},
        ]
        for offset, kind in enumerate(kinds):
            plain = {"from": one, "to": token, "data": transfer, "gas": hex(200_000)}
            chain.rpc("eth_sendTransaction", plain | kind | {"nonce": hex(nonce + offset)})
        chain.rpc("evm_mine")
    chain.rpc("evm_setAutomine", True)
    chain.mine(10)
    return token.lower()
