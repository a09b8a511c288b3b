"""Fetch blocks and write them as the tables that training reads."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from src import cli
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.recording.dataset import (
    TRANSACTIONS_FILE,
    TRANSFERS_FILE,
    load_transactions,
    load_transfers,
)
from src.chain.recording.fetch import BlockFetcher, Node
from src.chain.recording.format import Recording, RecordingError, open_writer
from src.datasets.tables import read_table, require_columns
from src.datasets.training_set import RECORDING_FOLDER
from src.files import write_file
from src.settings import load_settings, on_the_nodes_chain

_BLOCKS_A_PART = 50


@dataclass(frozen=True, slots=True)
class WantedBlock:
    """A block to fetch."""

    number: int
    block_hash: str | None = None  # its expected hash; None if unknown
    # The source to record for its transactions; training thins one source, so lists written by
    # training contain it.
    source: str | None = None


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    cli.log_to_stderr()
    settings = load_settings()
    url = options.url or settings.json_rpc_url
    if not url:
        raise cli.CommandError("no node: set JSON_RPC_URL or pass --url", exit_code=cli.WRONG_USAGE)
    if options.blocks:
        wanted = read_block_list(options.blocks)
    else:
        wanted = [WantedBlock(n) for n in range(options.from_block, options.to_block + 1)]
    settings = on_the_nodes_chain(replace(settings, json_rpc_url=url))
    client = JsonRpcClient(
        url,
        timeout=30.0,
        rate_limit=RateLimit(Rate(settings.json_rpc_requests_per_second, 1.0)),
        connections=options.workers,
    )
    with closing(client), logging_redirect_tqdm():
        transactions, transfers = collect(
            client, wanted, options.out, workers=options.workers, patience=options.patience
        )
    sys.stdout.write(
        f"{options.out} holds {len(wanted):,} blocks, {transactions:,} transactions, "
        f"{transfers:,} token transfers.\nNext: npm run train -- --data {options.out} --out DIR\n"
    )
    return 0


def read_block_list(path: Path) -> list[WantedBlock]:
    """Blocks of a CSV file with the column block_number, and optionally block_hash and source.

    Raises:
        ValueError: the file is invalid.
    """
    table = read_table(path)
    require_columns(table, ("block_number",), str(path))
    numbers = pd.to_numeric(table["block_number"], errors="coerce")
    if numbers.isna().any() or (numbers < 0).any() or (numbers % 1 != 0).any():
        raise ValueError(f"{path}: block_number has invalid values")
    known = [
        [text if isinstance(text, str) else None for text in table[name].tolist()]
        if name in table.columns
        else [None] * len(table)
        for name in ("block_hash", "source")
    ]
    wanted = {
        int(number): WantedBlock(int(number), block_hash, source)
        for number, block_hash, source in zip(numbers.tolist(), *known, strict=True)
    }
    return [wanted[number] for number in sorted(wanted)]


def collect(
    client: JsonRpcClient,
    wanted: Sequence[WantedBlock],
    out: Path,
    *,
    workers: int = 4,
    patience: float = 120.0,
) -> tuple[int, int]:
    """Fetch missing blocks and write the tables.

    Blocks are in ascending order. A failing node is retried for `patience` seconds.

    Returns:
        Number of transactions and of token transfers.

    Raises:
        SourceError: the node does not answer.
        UnverifiedBlock: a block's receipts do not verify.
        RecordingError: the folder contains something else, or a block has an unexpected hash.
    """
    if not wanted:
        raise RecordingError("the list of blocks is empty")
    folder = out / RECORDING_FOLDER
    node = Node(client, patience)
    head = node.head(wanted[-1].number)
    if wanted[-1].number > head:
        raise RecordingError(f"block {wanted[-1].number}: the node's newest block is only {head}")
    fetcher = BlockFetcher(node)
    with (
        open_writer(folder, node.quantity("eth_chainId")) as writer,
        ThreadPoolExecutor(workers, "collect") as pool,
        tqdm(total=len(wanted), unit="block", disable=not sys.stderr.isatty()) as progress,
    ):
        for run in _runs(block.number for block in wanted):
            gaps = writer.missing(run[0], run[-1])
            progress.update(len(run) - sum(map(len, gaps)))
            for gap in gaps:
                for start in range(gap.start, gap.stop, _BLOCKS_A_PART):
                    part = range(start, min(start + _BLOCKS_A_PART, gap.stop))
                    with closing(fetcher.fetch_all(part, pool, 2 * workers)) as fetched:
                        for rows in fetched:
                            writer.add(rows)
                            progress.update()
                    writer.write()
    _check_hashes(folder, wanted)
    return _write_tables(folder, wanted, out)


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """Groups of consecutive numbers, which a recording stores as one part."""
    ordered = sorted(numbers)
    runs = [[number] for number in ordered[:1]]
    for before, number in pairwise(ordered):
        if number == before + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _check_hashes(folder: Path, wanted: Sequence[WantedBlock]) -> None:
    table = Recording(folder).blocks(["block_number", "block_hash"]).to_pydict()
    found = dict(zip(table["block_number"], table["block_hash"], strict=True))
    for block in wanted:
        if block.block_hash and found[block.number] != block.block_hash.lower():
            raise RecordingError(
                f"block {block.number} of this node is {found[block.number]}, but the list states "
                f"{block.block_hash}: the node is on another chain"
            )


def _write_tables(folder: Path, wanted: Sequence[WantedBlock], out: Path) -> tuple[int, int]:
    numbers = {block.number for block in wanted}
    transactions = load_transactions(folder).to_pandas()
    transactions = transactions[transactions["block_number"].isin(numbers)]
    sources = {block.number: block.source for block in wanted if block.source}
    blocks, recorded = transactions["block_number"].tolist(), transactions["source"].tolist()
    named = [sources.get(block, source) for block, source in zip(blocks, recorded, strict=True)]
    transactions = transactions.assign(source=named)
    transfers = load_transfers(folder).to_pandas()
    transfers = transfers[transfers["tx_hash"].isin(set(transactions["tx_hash"]))]
    write_file(out / TRANSFERS_FILE, transfers.to_parquet(index=False))
    write_file(out / TRANSACTIONS_FILE, transactions.to_parquet(index=False))
    return len(transactions), len(transfers)
