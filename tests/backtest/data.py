"""Histories for the tests of the backtest: hostile ones, in every layout."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from src.chain.transfers import TRANSFER_TOPIC, Transfer

ZERO = "0x" + "0" * 40
DAY = 86_400
FIRST_TIME = 1_700_000_000
LARGEST = 2**256 - 1


@dataclass
class Transaction:
    """One transaction and its ERC-20 transfers in log order."""

    tx_hash: str
    block: int
    index: int
    sender: str | None
    to: str | None
    nonce: int
    transfers: list[Transfer] = field(default_factory=list)

    @property
    def timestamp(self) -> int:
        return FIRST_TIME + 3600 * self.block


def hostile_history(seed: int = 0, blocks: int = 40, tokens: list[str] | None = None):
    """Transactions that try everything: loops, self-transfers, mints, look-alikes, extremes."""
    chance, more = random.Random(seed), random.Random(f"more {seed}")
    tokens = tokens or []
    tokens = tokens[:4] + [address(chance) for _ in range(4)]
    accounts = [address(chance) for _ in range(12)] + [ZERO]
    accounts += [a[:6] + address(chance)[6:-5] + a[-5:] for a in accounts[:4]]  # read alike
    extremes = [0, 0, 1, 2**53, 2**53 + 1, 10**18, 10**18 + 1, 10**24, 2**128, LARGEST]
    found = []
    for block in range(blocks):
        log_index = 0
        for index in range(chance.randint(0, 6)):
            sender = chance.choice([*accounts, None]) if chance.random() < 0.2 else accounts[index]
            to = chance.choice([None, *accounts])
            tx_hash = f"0x{chance.getrandbits(256):064x}"
            transaction = Transaction(tx_hash, block, index, sender, to, chance.choice([0, 1, 99]))
            few = chance.sample(accounts, chance.choice([2, 3, 4, 8]))
            amounts = chance.sample(extremes, 3)
            for _ in range(chance.choice([0, 1, 1, 2, 3, 5, 8, 20, 80])):
                amount = chance.choice(amounts)
                payer, payee = chance.choice(few), chance.choice(few)
                transaction.transfers.append(
                    Transfer(chance.choice(tokens), payer, payee, amount, log_index)
                )
                log_index += chance.randint(1, 3)
            if chance.random() < 0.3:  # a loan repaid, exactly or just not
                token, lender, borrower = tokens[0], accounts[0], accounts[1]
                owed = chance.choice([10**18, 2**53 + 1, LARGEST])
                returned = max(0, owed - chance.choice([0, 0, 1]))
                for move in (
                    (token, lender, borrower, owed),
                    (tokens[1], accounts[2], borrower, 5),
                    (token, borrower, lender, returned),
                ):
                    transaction.transfers.append(Transfer(*move, log_index))
                    log_index += 1
            if chance.random() < 0.3:  # tokens taken, some given back to the last unit or not
                victim, thief = accounts[3], accounts[4]
                for token in tokens[:4]:
                    taken = chance.choice([7, 2**64, LARGEST])
                    back = taken - chance.choice([0, 1, taken])
                    moves = [(token, victim, thief, taken)]
                    moves += [(token, thief, victim, back)] * (chance.random() < 0.3)
                    for move in moves:
                        transaction.transfers.append(Transfer(*move, log_index))
                        log_index += 1
            if more.random() < 0.1 and tokens:  # an allowance, spent by whom it was given to
                moved = Transfer(tokens[0], accounts[7], accounts[8], 10**18, log_index)
                transaction.to, transaction.nonce = tokens[0], more.choice([1, 99])
                transaction.transfers[:] = [moved]
                log_index += 1
            elif more.random() < 0.1:  # tokens taken and shared, to the last unit or not
                token, victim = more.choice(tokens), accounts[7]
                taken = more.choice([10**18, 10**18 + 1, LARGEST])
                share = taken // 5 - more.choice([0, 0, 10**9])
                for thief, part in ((accounts[8], share), (accounts[9], taken - share)):
                    transaction.transfers.append(Transfer(token, victim, thief, part, log_index))
                    log_index += 1
            found.append(transaction)
    return found


def address(chance: random.Random) -> str:
    return f"0x{chance.getrandbits(160):040x}"


def write_dataset(folder: Path, history: list[Transaction]) -> None:
    """The data-set layout, out of order, with duplicates and an NFT."""
    transactions = [
        {
            "tx_hash": t.tx_hash,
            "block_number": t.block,
            "block_timestamp": t.timestamp,
            "from_address": t.sender,
            "to_address": t.to,
            "nonce": t.nonce,
            "tx_index": t.index,
        }
        for t in history
    ]
    transfers = [
        {
            "tx_hash": t.tx_hash,
            "log_index": m.log_index,
            "token_address": m.token,
            "from_address": m.sender,
            "to_address": m.recipient,
            "value_raw": str(m.amount),
            "token_std": "erc20",
        }
        for t in history
        for m in t.transfers
    ]
    transfers += [{**transfers[0], "log_index": 10_000, "token_std": "erc721"}, transfers[-1]]
    order = random.Random(1)
    order.shuffle(transactions)
    order.shuffle(transfers)
    _write(folder / "transactions.parquet", transactions)
    _write(folder / "transfers.parquet", transfers)


def write_etl(folder: Path, history: list[Transaction], *, rows: int = 50) -> None:
    """ethereum-etl's layout, in order of blocks, in several row groups."""
    transactions = [
        {
            "hash": t.tx_hash,
            "nonce": t.nonce,
            "block_number": t.block,
            "transaction_index": t.index,
            "from_address": t.sender,
            "to_address": t.to,
            "block_timestamp": t.timestamp,
        }
        for t in history
    ]
    transfers = [
        {
            "token_address": m.token,
            "from_address": m.sender.upper().replace("0X", "0x"),
            "to_address": m.recipient,
            "value": str(m.amount),
            "transaction_hash": t.tx_hash,
            "log_index": m.log_index,
            "block_number": t.block,
        }
        for t in history
        for m in t.transfers
    ]
    _write(folder / "transactions.parquet", transactions, rows)
    _write(folder / "token_transfers.parquet", transfers, rows)


def write_etl_logs(folder: Path, history: list[Transaction]) -> None:
    """ethereum-etl's logs with lists of topics, and times as such, as on AWS."""
    write_etl(folder, history)
    (folder / "token_transfers.parquet").unlink()
    path = folder / "transactions.parquet"
    table = pq.read_table(path)
    times = table["block_timestamp"].cast(pa.timestamp("s")).cast(pa.timestamp("us", "UTC"))
    at = table.schema.get_field_index("block_timestamp")
    pq.write_table(table.set_column(at, "block_timestamp", times), path)
    topic = "0x" + "0" * 24
    logs = [
        {
            "log_index": m.log_index,
            "transaction_hash": t.tx_hash,
            "block_number": t.block,
            "address": m.token,
            "data": f"0x{m.amount:064x}",
            "topics": [TRANSFER_TOPIC, topic + m.sender[2:], topic + m.recipient[2:]],
        }
        for t in history
        for m in t.transfers
    ]
    _write(folder / "logs.parquet", logs)


def _arguments(moved, indexed):
    """Topics and data of a Transfer event whose first arguments are indexed, all as a rule."""
    words = [b"\xff" * 12 + _bytes(moved.sender), bytes(12) + _bytes(moved.recipient)]
    topics = [*words[:indexed], None, None, None]
    data = b"".join([*words[indexed:], moved.amount.to_bytes(32, "big")])
    return {"topic1": topics[0], "topic2": topics[1], "topic3": None, "data": data}


def write_cryo(folder: Path, history: list[Transaction], *, logs: bool) -> None:
    """cryo's layout: binary columns, and times in the blocks alone; as transfers or as logs."""
    transactions = [
        {
            "transaction_hash": _bytes(t.tx_hash),
            "block_number": t.block,
            "transaction_index": t.index,
            "from_address": _bytes(t.sender),
            "to_address": _bytes(t.to),
            "nonce": t.nonce,
            "value_binary": b"",
        }
        for t in history
    ]
    common = [
        ({"block_number": t.block, "transaction_hash": _bytes(t.tx_hash)}, m)
        for t in history
        for m in t.transfers
    ]
    if logs:
        rows = [
            {
                **where,
                "log_index": m.log_index,
                "address": _bytes(m.token),
                "topic0": _bytes(TRANSFER_TOPIC),
                **_arguments(m, indexed=2 - position % 3),
            }
            for position, (where, m) in enumerate(common)
        ]
        first = rows[0]
        rows += [  # not ERC-20: an NFT, a short word, another event
            {**first, "log_index": 20_000, "topic3": bytes(32), "data": b""},
            {**first, "log_index": 20_001, "data": bytes(31)},
            {**first, "log_index": 20_002, "topic0": bytes(32)},
            {**first, "log_index": 20_003, "topic2": None},
            {**first, "log_index": 20_004, "data": bytes(64)},
            {**first, "log_index": 20_005, "topic1": None, "data": bytes(64)},
        ]
        rows.sort(key=lambda row: row["block_number"])
        _write(folder / "ethereum__logs__0_to_99.parquet", rows)
    else:
        rows = [
            {
                **where,
                "log_index": m.log_index,
                "erc20": _bytes(m.token),
                "from_address": _bytes(m.sender),
                "to_address": _bytes(m.recipient),
                "value_binary": m.amount.to_bytes(32, "big"),
                "value_f64": float(m.amount),
            }
            for where, m in common
        ]
        _write(folder / "ethereum__erc20_transfers__0_to_99.parquet", rows)
    blocks = {t.block: t.timestamp for t in history}
    rows = [
        {"block_hash": bytes(32), "author": bytes(20), "block_number": b, "timestamp": s}
        for b, s in blocks.items()
    ]
    _write(folder / "ethereum__blocks__0_to_99.parquet", rows)
    _write(folder / "ethereum__transactions__0_to_99.parquet", transactions)


def _write(path: Path, rows: list[dict[str, object]], row_group: int = 10_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text[2:])
