"""What the evaluation looks at besides the background: exploits, hard negatives, like with like.

Each loader returns None where the folder lacks the files: the report then lacks the section.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from src.chain.recording.dataset import TRANSACTIONS_FILE, TRANSFERS_FILE
from src.datasets.location import EXPLOITS_FILE
from src.datasets.tables import TransactionSet, read_table
from src.datasets.training_set import exploit_hashes
from src.detection.features.batch import TransferBatch

_CANONICAL_TRANSFERS = 20

# Aggregators and swap routers by `tx.to`: their users' transactions are benign, and busy.
ROUTERS = frozenset(
    {
        "0x1111111254fb6c44bac0bed2854e76f90643097d",  # 1inch v4
        "0x1111111254eeb25477b68fb85ed929f73a960582",  # 1inch v5
        "0x111111125421ca6dc452d289314280a0f8842a65",  # 1inch v6
        "0x11111112542d85b3ef69ae05771c2dccff4faa26",  # 1inch v3
        "0xdef1c0ded9bec7f1a1670819833240f027b25eff",  # 0x exchange proxy
        "0xdef171fe48cf0115b1d80b88dc8eab59176fee57",  # ParaSwap v5
        "0x6a000f20005980200259b80c5102003040001068",  # ParaSwap v6
        "0x881d40237659c251811cec9c364ef91dc08d300c",  # MetaMask Swap
        "0x9008d19f58aabd9ed0d60971565aa8510560ab41",  # CoW settlement
        "0xef1c6e67703c7bd7107eed8303fbe6ec2554bf6b",  # Uniswap universal router
        "0x3fc91a3afd70395cd496c647d5a6cc9d4b2b7fad",  # Uniswap universal router 2
        "0x66a9893cc07d91d95644aedd05d03f95e1dba8af",  # Uniswap universal router 4
        "0x6131b5fae19ea4f9d964eac0408e4408b66337b5",  # KyberSwap
    }
)


def load_exploits(folder: Path, chain: str = "ethereum") -> TransactionSet | None:
    """Known exploits with transfers, `derivation` and, where known, `date` and `protocol`."""
    suffix = "" if chain == "ethereum" else f"_{chain}"
    path = folder / f"exploit_transfers{suffix}.csv.gz"
    if not path.is_file() or not (folder / EXPLOITS_FILE).is_file():
        return None
    rows = read_table(path, ("tx_hash", "tx_from", "seq", "derivation"))
    if "preferred" in rows.columns:
        rows = rows[rows["preferred"] == 1]
    listed = read_table(folder / EXPLOITS_FILE, ("tx_hash", "label", "protocol", "date"))
    listed = listed[listed["label"] == "exploit"].drop_duplicates("tx_hash")
    facts = _senders(rows, ["derivation"]).merge(
        listed[["tx_hash", "protocol", "date"]], on="tx_hash"
    )
    return _joined(facts, rows, path)


def load_calls_background(folder: Path) -> TransactionSet | None:
    """Whole blocks rebuilt from call frames: what exploits of that kind are to be compared with."""
    path = folder / "calls_background_transfers.csv.gz"
    if not path.is_file():
        return None
    rows = read_table(path, ("tx_hash", "seq"))
    facts = read_table(folder / "calls_background_transactions.csv.gz", ("tx_hash", "tx_from"))
    facts = facts[~facts["in_exploit_list"].astype(bool)]
    facts = facts.rename(columns={"tx_from": "from_address", "tx_to": "to_address"})
    return _joined(facts.assign(source="calls"), rows, path)


def load_benign_fixtures(folder: Path) -> TransactionSet | None:
    """Airdrops, batch payments and random transactions with real logs; `label` says which."""
    path = folder / "forta_fixture_transfers.csv.gz"
    if not path.is_file():
        return None
    rows = read_table(path, ("tx_hash", "seq", "label", "tx_from"))
    return _joined(_senders(rows, ["label"]), rows, path)


def load_protocol_history(folder: Path) -> TransactionSet | None:
    """An attacked protocol's history with real logs; `label` is history or attack_*."""
    path = folder / "defiwarder_history_transfers.csv.gz"
    if not path.is_file():
        return None
    rows = read_table(path, ("tx_key", "seq", "label", "tx_from"))
    rows = rows.drop(columns="tx_hash").rename(columns={"tx_key": "tx_hash"})
    return _joined(_senders(rows, ["label"]), rows, path)


def load_unusual_defi(folder: Path) -> TransactionSet | None:
    """Single transactions, of unusual protocols, that a portfolio tracker tests itself with."""
    path = folder / TRANSACTIONS_FILE
    if not path.is_file():
        return None
    facts = read_table(path)
    if "source" not in facts.columns:
        return None
    facts = facts[(facts["source"] == "rotki-cassettes") & facts["all_logs"].astype(bool)]
    facts = facts[~facts["tx_hash"].isin(exploit_hashes(folder))]
    found = TransactionSet.from_tables(facts, read_table(folder / TRANSFERS_FILE), what=str(path))
    return found if len(found) else None


def by_seq(rows: pd.DataFrame) -> pd.DataFrame:
    """Transfers in the order of `seq`, which lists of attacks have, also where a log has none."""
    if "seq" not in rows.columns:
        return rows
    return rows.drop(columns="log_index", errors="ignore").rename(columns={"seq": "log_index"})


def to_router(data: TransactionSet) -> NDArray[np.bool_]:
    """Which transactions call a known aggregator or router."""
    to_address = data.table["to_address"].astype("string").str.lower()
    return to_address.isin(ROUTERS).to_numpy(dtype=bool)


def call_view(data: TransactionSet) -> TransactionSet:
    """The set as call frames would show it: without mints and burns."""
    batch = data.batch
    inner = (batch.sender != 0) & (batch.recipient != 0)
    counts = batch.count(inner)
    left = counts > 0
    facts = data.table[left].assign(n_transfers=counts[left]).reset_index(drop=True)
    return TransactionSet(facts, batch.part(inner, left))


def clusters(*sets: TransactionSet) -> NDArray[np.int64]:
    """A number for each transaction of all sets, the same for those with the same transfer graph.

    One attack is often run many times. Its runs are not independent cases. The graph is that of the
    first 20 transfers, tokens and accounts numbered in order of appearance.
    """
    shapes: dict[tuple[int, ...], int] = {}
    graphs = [graph for data in sets for graph in transfer_graphs(data.batch)]
    return np.array([shapes.setdefault(graph, len(shapes)) for graph in graphs], dtype=np.int64)


def attack_groups(graphs: NDArray[np.int64], protocols: Sequence[str]) -> NDArray[np.int64]:
    """A number for each attack, the same for those of one graph or one protocol, and theirs.

    Args:
        graphs: by attack, see `clusters`.
        protocols: likewise, "" where it is not known.
    """
    rows, names = np.arange(len(graphs)), pd.Series(protocols, dtype=object).replace("", None)
    known = names.notna().to_numpy()
    name, _ = pd.factorize(names[known])
    first_graph, first_name = len(rows), len(rows) + int(graphs.max()) + 1
    ends = np.concatenate([first_graph + graphs, first_name + name])
    size = first_name + len(name)
    starts = np.concatenate([rows, rows[known]])
    edges = coo_matrix((np.ones(len(ends)), (starts, ends)), shape=(size, size))
    return connected_components(edges, directed=False)[1][: len(rows)].astype(np.int64)


def transfer_graphs(batch: TransferBatch) -> Iterator[tuple[int, ...]]:
    """The transfer graph of each transaction, see `clusters`."""
    for first, last in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        seen: dict[tuple[str, int], int] = {}
        yield tuple(
            seen.setdefault(part, len(seen))
            for row in range(first, min(last, first + _CANONICAL_TRANSFERS))
            for part in (
                ("token", int(batch.token[row])),
                ("account", int(batch.sender[row])),
                ("account", int(batch.recipient[row])),
            )
        )


def _senders(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    facts = rows[["tx_hash", "tx_from", *columns]].drop_duplicates("tx_hash")
    return facts.rename(columns={"tx_from": "from_address"})


def _joined(facts: pd.DataFrame, rows: pd.DataFrame, path: Path) -> TransactionSet | None:
    found = TransactionSet.from_tables(facts, by_seq(rows), what=str(path))
    return found if len(found) else None
