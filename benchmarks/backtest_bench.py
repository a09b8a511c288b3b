"""Throughput, memory and scaling of the backtest: `npm run bench:backtest`.

Measures the import of an export, and the backtest of its store. Multiplies real transactions:
copies get other hashes, accounts and amounts and later blocks, so that accounts and model inputs
repeat no more than in reality. Each run is a separate process, whose memory is measured as the sum
over it and its workers, with shared pages counted once. Of several runs of a size, the one with the
median time is shown.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from operator import itemgetter
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from src import cli
from src.chain.recording.dataset import is_dataset

PROJECT = Path(__file__).resolve().parents[1]
DEFAULT_DATA = PROJECT.parent / "shared" / "data"

_EPILOG = """\
Other options go to `npm run backtest`.

examples:
  npm run bench:backtest -- --transfers 1e6
  npm run bench:backtest -- --data DIR --runs 1 --workers 2
"""
_BLOCK_SECONDS = 12
_FIRST_BLOCK = 15_000_000
_FIRST_TIME = 1_655_778_535
_ZERO_ADDRESS = "0x" + "0" * 40
_ROW_GROUP = 1_000_000
_SAMPLE_SECONDS = 0.5  # looking takes time that the workers need


def multiply(data: Path, folder: Path, transfers_wanted: int, seed: int = 0) -> None:
    """Write copies of a data set's whole blocks, all files or none.

    The layout is ethereum-etl's, ordered by block, in files of one row group of a million rows.
    """
    random = np.random.default_rng(seed)
    transactions = pq.read_table(data / "transactions.parquet")
    whole = pc.and_(transactions["full_block"], transactions["all_logs"])
    transactions = transactions.filter(pc.and_(whole, pc.is_valid(transactions["from_address"])))
    transfers = pq.read_table(data / "transfers.parquet")
    transfers = transfers.filter(pc.equal(transfers["token_std"], "erc20"))
    owner = pc.index_in(transfers["tx_hash"], transactions["tx_hash"])
    transfers = transfers.filter(pc.is_valid(owner))
    owner = owner.drop_null().to_numpy()
    blocks, block = np.unique(transactions["block_number"].to_numpy(), return_inverse=True)
    index = pc.fill_null(transactions["tx_index"], 0).to_numpy()
    order = np.lexsort((index, block))
    transactions, block = transactions.take(order), block[order]
    place = np.argsort(order)[owner]
    log_index = transfers["log_index"].to_numpy()
    order = np.lexsort((log_index, place))
    transfers, place = transfers.take(order), place[order]
    amounts = [int(text) for text in transfers["value_raw"].to_pylist()]
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    pending: dict[str, list[pa.Table]] = {"transactions": [], "token_transfers": []}
    copies = -(-transfers_wanted // len(transfers))
    for copy in range(copies):
        number = _FIRST_BLOCK + copy * len(blocks) + block
        factor = random.integers(1000, 4000, len(transactions)).tolist()
        varied = [
            str(min(amount * factor[tx] // 2000, 2**256 - 1))
            for amount, tx in zip(amounts, place.tolist(), strict=True)
        ]
        pending["transactions"].append(
            pa.table(
                {
                    "hash": _renamed(transactions["tx_hash"], copy),
                    "nonce": transactions["nonce"],
                    "block_number": number,
                    "transaction_index": transactions["tx_index"],
                    "from_address": _renamed(transactions["from_address"], copy),
                    "to_address": transactions["to_address"],
                    "block_timestamp": _FIRST_TIME + _BLOCK_SECONDS * (number - _FIRST_BLOCK),
                }
            )
        )
        pending["token_transfers"].append(
            pa.table(
                {
                    "token_address": transfers["token_address"],
                    "from_address": _renamed(transfers["from_address"], copy),
                    "to_address": _renamed(transfers["to_address"], copy),
                    "value": pa.array(varied, pa.large_string()),
                    "transaction_hash": _renamed(transfers["tx_hash"], copy),
                    "log_index": transfers["log_index"],
                    "block_number": number[place],
                }
            )
        )
        if sum(map(len, pending["token_transfers"])) >= _ROW_GROUP or copy == copies - 1:
            for name, tables in pending.items():
                table = pa.concat_tables(tables)
                path = unfinished / f"{name}-{copy:06d}.parquet"
                pq.write_table(table, path, row_group_size=_ROW_GROUP, compression="zstd")
                tables.clear()
    os.sync()  # else the system would write the data while the backtest is measured
    unfinished.rename(folder)


def _renamed(column: pa.ChunkedArray, copy: int) -> pa.ChunkedArray:
    """Other hashes or addresses, one for each; the zero address stays."""
    if copy == 0:
        return column
    changed = pc.binary_replace_slice(column, 10, 16, f"{copy:06x}")
    return pc.if_else(pc.equal(column, _ZERO_ADDRESS), column, changed)


def _measure(module: str, data: Path, out: Path, options: list[str]) -> dict[str, float]:
    started = time.perf_counter()
    command = [sys.executable, "-m", module, "--data", str(data), "--out", str(out), *options]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    memory = _Memory(process.pid)
    memory.start()
    _, status, usage = os.wait4(process.pid, 0)  # its CPU time is that of its workers as well
    memory.over.set()
    memory.join()
    if status:
        raise cli.CommandError(f"{module} failed, see above")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(memory.peak / 2**20),
    }


class _Memory(threading.Thread):
    """Looks at the memory of a process and its children; `peak` is the largest sum, in bytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="memory", daemon=True)
        self.over = threading.Event()
        self.peak = 0
        self._pid = pid

    def run(self) -> None:
        """Look until it is over."""
        root = psutil.Process(self._pid)
        while not self.over.wait(_SAMPLE_SECONDS):
            total = 0
            with suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):
                    with suppress(psutil.Error):  # it has just ended
                        total += process.memory_full_info().pss
            self.peak = max(self.peak, total)


@cli.command("bench:backtest")
def main(arguments: list[str] | None = None) -> int:
    """Measure and print one line a size, as a table and as JSON."""
    parser = cli.parser("bench:backtest", __doc__, _EPILOG)
    parser.add_argument(
        "--data", type=cli.path, default=DEFAULT_DATA, help="a data set to multiply"
    )
    parser.add_argument(
        "--transfers",
        type=cli.number(1),
        nargs="+",
        default=[1e6, 3e6, 10e6],
        help="sizes (1e6 3e6 10e6)",
    )
    parser.add_argument(
        "--runs", type=cli.positive, default=3, help="of each size; the median counts (3)"
    )
    parser.add_argument(
        "--kept", type=cli.output_folder, metavar="FOLDER",
        help="where the multiplied data is kept, and taken from the next time",
    )  # fmt: skip
    options, rest = parser.parse_known_args(arguments)
    if not is_dataset(options.data):
        parser.error(f"{options.data} is not a data set (transactions.parquet, transfers.parquet)")
    lines = []
    print("           transfers   seconds   transfers/s   CPU s   peak MB")
    for size in options.transfers:
        with tempfile.TemporaryDirectory(prefix="backtest-bench-") as temporary:
            data = (options.kept or Path(temporary)) / f"{int(size)}"
            if not data.exists():
                multiply(options.data, data, int(size))
            transfers = sum(pq.read_metadata(p).num_rows for p in data.glob("token_transfers-*"))
            # The first is not counted: the system may still be busy with files just written.
            imports, runs = [], []
            for run in range(options.runs + 1):
                store, out = (Path(temporary) / f"{name}-{run}" for name in ("store", "run"))
                imports.append(_measure("src.history", data, store, []))
                runs.append(_measure("src.backtest", store, out, rest))
            for name, measured in (("import", imports), ("backtest", runs)):
                found = sorted(measured[1:], key=itemgetter("seconds"))[options.runs // 2]
                rate = transfers / found["seconds"]
                lines.append({"command": name, "transfers": transfers, **found})
                print(
                    f"{name:<9}{transfers:>11,} {found['seconds']:>9.1f} {rate:>13,.0f} "
                    f"{found['cpu_seconds']:>7.1f} {found['peak_mb']:>9,.0f}"
                )
    print(json.dumps(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
