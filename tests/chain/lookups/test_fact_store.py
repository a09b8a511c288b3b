"""Facts survive restarts, several processes share them, and a bad disk costs one warning."""

import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from src.chain.facts import CodeAt, Deployment, FirstTransaction, TokenInfo
from src.chain.lookups.cache import FactCache, LruCache
from src.chain.lookups.store import FILE_NAME, FactStore
from src.demo.processes import supervised

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
INFO = TokenInfo("USD Coin", "USDC", 6)
FROM_NODE = FirstTransaction(1_600_000_000, "node")


def address(number: int) -> str:
    return f"0x{number:040x}"


def test_facts_survive_a_restart(tmp_path: Path) -> None:
    store = FactStore(tmp_path / "new" / "folder", 1)
    store.put_token_infos({USDC: INFO})
    store.put_first_transactions({USDC: FROM_NODE})
    store.close()
    again = FactStore(tmp_path / "new" / "folder", 1)
    assert again.token_info(USDC) == INFO
    assert again.first_transaction(USDC) == FROM_NODE
    again.close()


def test_chains_do_not_share_facts(tmp_path: Path) -> None:
    ethereum, polygon = FactStore(tmp_path, 1), FactStore(tmp_path, 137)
    ethereum.put_token_infos({USDC: INFO})
    assert polygon.token_info(USDC) is None
    ethereum.close()
    polygon.close()


@pytest.mark.parametrize("later", ["node", "etherscan"])
@pytest.mark.parametrize("earlier", ["node", "etherscan"])
@pytest.mark.parametrize("persistent", [True, False])
def test_the_earliest_first_transaction_is_kept(
    tmp_path: Path, later: str, earlier: str, persistent: bool
) -> None:
    store = FactStore(tmp_path if persistent else None, 1)
    cache = FactCache(store)
    first = FirstTransaction(1_500_000_000, earlier)
    refuted = FirstTransaction(1_600_000_000, later)
    for claim in (refuted, first, refuted):
        cache.keep_first_transactions({USDC: claim})
    assert cache.first_transaction(USDC) == first
    assert FactCache(store).first_transaction(USDC) == (first if persistent else None)
    store.close()


def test_deployments_are_joined_with_what_is_stored(tmp_path: Path) -> None:
    store, other = FactStore(tmp_path, 1), FactStore(tmp_path, 1)
    for known in (Deployment(5, None), Deployment(None, 90), Deployment(3, 80), Deployment(7, 99)):
        store.put_deployments({USDC: known})
    assert other.deployment(USDC) == Deployment(7, 80)
    cache = FactCache(other)
    cache.keep_code_answers({"any key": CodeAt(USDC, 40, exists=True)})
    assert cache.existed_at(USDC, 40)
    assert store.deployment(USDC) == Deployment(7, 40)
    store.close()
    other.close()


def test_oldest_facts_go_when_the_bound_is_reached(tmp_path: Path) -> None:
    store = FactStore(tmp_path, 1, max_facts=100)
    for number in range(1000):
        store.put_token_infos({address(number): INFO})
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        (rows,) = other.execute("SELECT count(*) FROM token").fetchone()
    assert rows <= 200
    assert store.token_info(address(999)) == INFO
    assert store.token_info(address(0)) is None
    store.close()


def test_two_processes_write_one_file(tmp_path: Path) -> None:
    script = """
import sys
from contextlib import closing
from pathlib import Path
from src.chain.lookups.store import FactStore
from src.chain.facts import TokenInfo
store = FactStore(Path(sys.argv[1]), 1)
for number in range(100):
    store.put_token_infos({f"0x{number:039x}{sys.argv[2]}": TokenInfo("n", "S", 18)})
assert store._reader is not None
store.close()
"""
    processes = [
        subprocess.Popen(supervised([sys.executable, "-c", script, str(tmp_path), name]))
        for name in "ab"
    ]
    assert [process.wait() for process in processes] == [0, 0]
    store = FactStore(tmp_path, 1)
    assert all(store.token_info(f"0x{99:039x}{name}") for name in "ab")
    store.close()


def corrupt(folder: Path) -> None:
    (folder / FILE_NAME).write_bytes(b"not a database" * 1000)


def read_only(folder: Path) -> None:
    (folder / FILE_NAME).mkdir()


def damaged_inside(folder: Path) -> None:
    store = FactStore(folder, 1)
    store.put_token_infos({address(number): INFO for number in range(1000)})
    store.close()
    content = bytearray((folder / FILE_NAME).read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (folder / FILE_NAME).write_bytes(content)


@pytest.mark.parametrize("harm", [corrupt, read_only, damaged_inside])
def test_unusable_disk_costs_one_warning_and_memory_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: object
) -> None:
    harm(tmp_path)  # type: ignore[operator]
    store = FactStore(tmp_path, 1)
    cache = FactCache(store)
    for number in range(5):
        assert cache.token_info(address(number)) is None
        cache.keep_token_infos({address(number): INFO})
        cache.keep_first_transactions({address(number): FROM_NODE})
        assert cache.token_info(address(number)) == INFO
    store.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_full_disk_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FactStore(tmp_path, 1)
    assert store._writer is not None
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    cache = FactCache(store)
    for number in range(2000):
        cache.keep_token_infos({address(number): TokenInfo("n" * 64, "S", 18)})
    assert cache.token_info(address(1999)) is not None
    assert len(caplog.records) == 1
    store.close()


def test_impossible_facts_on_disk_are_not_believed(tmp_path: Path) -> None:
    store = FactStore(tmp_path, 1)
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute(
            "INSERT INTO token (chain_id, address, name, symbol, decimals, read_at)"
            " VALUES (1, ?, '!*initialize*!x', 'S', 999999, 1)",
            (USDC,),
        )
        other.execute(
            "INSERT INTO first_transaction (chain_id, address, timestamp, source)"
            " VALUES (1, ?, -1, 'node')",
            (USDC,),
        )
        other.execute(
            "INSERT INTO deployment (chain_id, address, absent_at, present_at)"
            " VALUES (1, ?, -7, 'soon')",
            (USDC,),
        )
    other.close()
    assert store.token_info(USDC) is None
    assert store.first_transaction(USDC) is None
    assert store.deployment(USDC) is None
    store.close()


def test_what_is_read_again_replaces_what_was_read_earlier(tmp_path: Path) -> None:
    store = FactStore(tmp_path, 1)
    renamed = TokenInfo("HELLO", "HELLO", None, read_at=2.0)
    for info in (TokenInfo("USD Coin", "USDC", 6, read_at=1.0), renamed):
        store.put_token_infos({USDC: info})
    assert store.token_info(USDC) == renamed
    assert store.token_info(USDC).read_at == 2.0  # type: ignore[union-attr]
    store.close()


def test_tokens_of_a_file_without_times_are_read_again(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as old:
        old.execute(
            "CREATE TABLE token (id INTEGER PRIMARY KEY, chain_id INTEGER NOT NULL,"
            " address TEXT NOT NULL, name TEXT NOT NULL, symbol TEXT NOT NULL,"
            " decimals INTEGER NOT NULL, UNIQUE (chain_id, address))"
        )
        old.execute("INSERT INTO token VALUES (1, 1, ?, 'HELLO', 'HELLO', 18)", (USDC,))
        old.commit()
    store = FactStore(tmp_path, 1)
    assert store.token_info(USDC) is None
    store.put_token_infos({USDC: INFO})
    store.close()
    again = FactStore(tmp_path, 1)
    assert again.token_info(USDC) == INFO
    again.close()


def test_that_a_contract_states_nothing_is_kept_in_memory_only(tmp_path: Path) -> None:
    store = FactStore(tmp_path, 1)
    cache = FactCache(store)
    cache.keep_token_infos({USDC: TokenInfo("", "", None), address(1): TokenInfo("", "", 18)})
    assert cache.token_info(USDC) == TokenInfo("", "", None)
    assert store.token_info(USDC) is None
    assert store.token_info(address(1)) == TokenInfo("", "", 18)
    store.close()


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    cache: LruCache[int] = LruCache(100)
    cache.put("used", 1)
    for number in range(10_000):
        cache.put(str(number), number)
        assert cache.get("used") == 1
    assert len(cache) == 100
