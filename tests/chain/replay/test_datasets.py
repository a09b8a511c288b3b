"""A data set is served as blocks, and what it does not know is neutral."""

from pathlib import Path

import pytest

from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import token_infos
from src.chain.errors import RequestRefused
from src.chain.replay.__main__ import open_chain
from src.chain.transfers import TRANSFER_TOPIC
from tests.chain.recording.blocks import SENDER, TOKEN, block_hash
from tests.chain.replay.served import NOT_RECORDED, UNKNOWN_HASH, ask, serve


def test_a_data_set_is_served_as_blocks(dataset: Path) -> None:
    with serve(dataset) as url:
        block = ask(url, "eth_getBlockByNumber", "latest", True)
        assert [tx["hash"] for tx in block["transactions"]] == ["0x" + "b1" * 32, "0x" + "b2" * 32]
        assert block["parentHash"] == block_hash(10)
        first, second = ask(url, "eth_getBlockReceipts", "0xb")
        assert [log["logIndex"] for log in first["logs"]] == ["0x2", "0x4"]
        assert first["logs"][0]["topics"][3] == f"0x{77:064x}"
        assert first["logs"][0]["data"] == "0x"
        assert first["logs"][1]["topics"] == [
            TRANSFER_TOPIC,
            "0x" + "0" * 24 + SENDER[2:],
            "0x" + "0" * 24 + TOKEN[2:],
        ]
        assert first["logs"][1]["data"] == "0x" + "f" * 64
        assert first["cumulativeGasUsed"] == hex(50_000)
        assert second["cumulativeGasUsed"] == hex(100_000)
        assert second["logs"] == []
        assert first["status"] == "0x1"
        assert "status" not in second
        assert ask(url, "eth_getLogs", {"fromBlock": "0xb"}) == first["logs"]


def test_a_data_sets_unknown_numbers_are_neutral(dataset: Path) -> None:
    with serve(dataset) as url:
        transaction = ask(url, "eth_getTransactionByHash", "0x" + "b2" * 32)
        assert (transaction["nonce"], transaction["value"]) == ("0x0", "0x0")
        typed = ask(url, "eth_getTransactionByHash", "0x" + "b1" * 32)
        assert (typed["type"], typed["maxFeePerGas"], typed["value"]) == (
            "0x2",
            "0x3b9aca00",
            "0x5",
        )


def test_a_data_sets_transactions_of_unknown_sender_are_left_out(dataset: Path) -> None:
    _, left_out = open_chain(dataset)
    assert left_out == 1
    with serve(dataset) as url:
        assert ask(url, "eth_getTransactionByHash", UNKNOWN_HASH) == NOT_RECORDED
        assert ask(url, "eth_getBlockByNumber", "0x9", False) == NOT_RECORDED


def test_nonces_of_a_data_set_are_served_only_for_complete_blocks(dataset: Path) -> None:
    with serve(dataset) as url:
        # Block 10 is not complete: the sender may have sent more in it.
        assert ask(url, "eth_getTransactionCount", SENDER, "0x9") == NOT_RECORDED
        assert ask(url, "eth_getTransactionCount", SENDER, "0xb") == "0x4"


def test_a_data_sets_token_list_answers_calls(dataset: Path) -> None:
    with serve(dataset) as url:
        client = JsonRpcClient(url)
        info = token_infos(client, [TOKEN])[TOKEN]
        assert not isinstance(info, Exception)
        assert (info.name, info.symbol, info.decimals) == ("Recorded", "RCT", 6)
        with pytest.raises(RequestRefused, match="not in the recording"):
            token_infos(client, [TOKEN, SENDER])
