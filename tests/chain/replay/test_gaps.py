"""What was not recorded is an error that says so, never an invented answer."""

from pathlib import Path
from typing import Any

from src.chain.recording.format import open_writer
from src.chain.recording.rows import encode_block
from tests.chain.recording.blocks import SENDER, TOKEN, make_block
from tests.chain.replay.served import NOT_RECORDED, UNKNOWN_HASH, ask, post, serve


def test_what_is_not_recorded_is_an_error_and_not_null(small: str) -> None:
    for question in [
        ("eth_getBlockByNumber", "0xc", False),
        ("eth_getBlockByHash", UNKNOWN_HASH, False),
        ("eth_getTransactionByHash", UNKNOWN_HASH),
        ("eth_getTransactionReceipt", UNKNOWN_HASH),
        ("eth_getBlockReceipts", "0x9"),
        ("eth_getLogs", {"fromBlock": "0xa", "toBlock": "0xd"}),
        ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0xa"}),
        ("eth_call", {"to": TOKEN, "data": "0x06fdde03"}, "latest"),
        ("eth_call", {"to": TOKEN, "data": "0x"}, "latest"),
        ("eth_getTransactionCount", TOKEN, "latest"),
    ]:
        assert ask(small, *question) == NOT_RECORDED, question


def test_a_missing_block_names_its_neighbours(small: str) -> None:
    request = {"id": 1, "method": "eth_getBlockByNumber", "params": ["0xc", True]}
    message = post(small, request)["error"]["message"]
    assert message == "block 12 is not in this recording; the nearest recorded are 11 and 13"


def test_above_the_newest_block_there_is_nothing(small: str) -> None:
    assert ask(small, "eth_getBlockByNumber", "0xe", True) is None
    assert ask(small, "eth_getBlockReceipts", "0xe") is None
    assert ask(small, "eth_getLogs", {"fromBlock": "0xe", "toBlock": "0xf"}) == []
    assert ask(small, "eth_getLogs", {"fromBlock": "0xd", "toBlock": "0xff"}) == []


def test_nonces_are_served_if_recorded_ones_bound_them(small: str) -> None:
    def nonce(block: int) -> Any:
        return ask(small, "eth_getTransactionCount", SENDER, hex(block))

    # make_block(n) holds one transaction of SENDER, of nonce n.
    assert nonce(10) == "0xb"
    assert nonce(11) == "0xc"
    assert nonce(12) == "0xd"  # block 12 is not recorded, but block 13's first nonce is 13
    assert nonce(13) == "0xe"
    assert nonce(9) == "0xa"  # block 10 is recorded, and its first nonce is 10
    assert nonce(8) == NOT_RECORDED


def test_accounts_that_others_may_raise_the_nonce_of_are_not_guessed(tmp_path: Path) -> None:
    with open_writer(tmp_path, 1) as writer:
        for number in (10, 11):
            # EIP-7702: block 11 could have raised the nonce of any account.
            kind = {"type": "0x4", "from": "0x" + "dd" * 20} if number == 11 else {}
            block = make_block(number, [], transaction=kind)
            writer.add(encode_block(block, receipts_root_verified=True))
        writer.write()
    with serve(tmp_path) as url:
        assert ask(url, "eth_getTransactionCount", SENDER, "0xa") == "0xb"
        assert ask(url, "eth_getTransactionCount", SENDER, "0xb") == NOT_RECORDED
