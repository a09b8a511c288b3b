"""Where a gain went next."""

from dataclasses import replace

from src.chain.transfers import Transfer
from src.service.balances import Worth, account_changes
from src.service.database.chain import mark_orphaned
from src.service.database.engine import Database
from src.service.database.watching import WatchedBlock, add_watched
from src.service.records import LoadedTransaction
from src.service.web.transaction.loot import Loot, next_movements
from tests.conftest import ALICE, BOB, USDC
from tests.service.database.rows import store, transaction

POOL, MIXER, OTHER_TOKEN = ("0x" + digits * 20 for digits in ("aa", "bb", "cc"))
THEFT = transaction(to=BOB, transfers=(Transfer(USDC, POOL, ALICE, 900, 3),), tx_index=5)


def spend(number: int, *moved: Transfer, block: int = 101, **changes: object) -> LoadedTransaction:
    tx_hash = f"0x{number:064x}"
    return transaction(tx_hash=tx_hash, block_number=block, transfers=moved, **changes)


def found(sqlite: Database, of: LoadedTransaction = THEFT) -> Loot | None:
    accounts = account_changes(of, {}, Worth({}, {}, has_list=False, wrapped_native=None))
    with sqlite.reading() as connection:
        return next_movements(connection, 1, of, accounts, {})


def test_the_first_transfers_after_the_gain_are_shown_in_order(sqlite: Database) -> None:
    later = [spend(n, Transfer(USDC, ALICE, MIXER, n, 0), tx_index=n) for n in range(10, 3, -1)]
    before = spend(1, Transfer(USDC, ALICE, BOB, 1, 0), block=100, tx_index=4)
    next_to_it = spend(2, Transfer(USDC, ALICE, BOB, 2, 0), block=100, tx_index=6)
    store(sqlite, THEFT, before, next_to_it, *later)
    loot = found(sqlite)
    assert loot is not None
    assert [one.payee for one in loot.movements] == [BOB, *[MIXER] * 4]
    assert [int(one.tx_hash, 16) for one in loot.movements] == [2, 4, 5, 6, 7]
    assert loot.has_more


def test_only_gained_tokens_of_the_side_on_the_chain_count(sqlite: Database) -> None:
    gone = spend(3, Transfer(USDC, ALICE, MIXER, 1, 0), block_hash="0x" + "ee" * 32)
    store(
        sqlite,
        THEFT,
        spend(1, Transfer(OTHER_TOKEN, ALICE, MIXER, 1, 0)),
        spend(2, Transfer(USDC, POOL, MIXER, 1, 0)),
        gone,
    )
    with sqlite.writing() as connection:
        mark_orphaned(connection, 1, [gone.block_hash])
    assert found(sqlite) == Loot([], has_more=False, watched_to=None)


def test_nothing_seen_is_unknown_until_a_later_block_was_watched(sqlite: Database) -> None:
    store(sqlite, THEFT)
    for number, watched_to in ((100, None), (107, 107)):
        block = WatchedBlock(number, f"0x{number:064x}", "0x")
        with sqlite.writing() as connection:
            add_watched(connection, 1, block, keep=10)
        assert found(sqlite) == Loot([], has_more=False, watched_to=watched_to)


def test_a_side_that_gained_nothing_has_no_loot(sqlite: Database) -> None:
    loss = replace(THEFT, transfers=(Transfer(USDC, ALICE, POOL, 900, 3),))
    store(sqlite, loss)
    assert found(sqlite, loss) is None
