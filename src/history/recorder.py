"""Records the missing blocks of a range into a folder, and imports them into its history store.

A recording is the node's own answers, to replay and to verify; its store is made of them, in the
same folder, and can always be made again. So neither has to hold what only the other needs.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pyarrow.compute as pc
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from src import cli
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import SourceError
from src.chain.recording.fetch import BlockFetcher, Node, UnverifiedBlock
from src.chain.recording.format import Recording, RecordingError, RecordingWriter, open_writer
from src.chain.recording.tokens import TokenFetcher
from src.datasets.store import MANIFEST, Store
from src.datasets.tables import TableError
from src.history.importing import ImportOptions, import_history
from src.history.run import interval, progress
from src.settings import load_settings, on_chain

ROWS_PER_PART = 200_000
_MAX_SHOWN = 20

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """A signal requested the end of the command."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class _StopFlag:
    """Set by the first SIGINT or SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.number = 0
        self.event = threading.Event()

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
        self.event.set()

    def check(self) -> None:
        if self.number:
            raise _Stopped(self.number)


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    started = time.monotonic()
    try:
        with _stop_flag() as stop, logging_redirect_tqdm():
            outcome = record(options, stop)
    except _Stopped as stopped:
        raise cli.CommandError(
            f"stopped by {stopped}; the same command resumes", exit_code=stopped.exit_code
        ) from None
    except UnverifiedBlock as error:
        unverified = ", --no-verify to record it as unverified" if error.recordable else ""
        raise cli.CommandError(
            f"{error}. Use another node{unverified}, or --skip-unverifiable to leave such blocks"
            " out"
        ) from error
    _summarise(options, outcome, _store(options.out), time.monotonic() - started)
    return 0


@dataclass(slots=True)
class _Outcome:
    """What could not be recorded."""

    tokens_missed: int = 0  # number of tokens whose metadata is unavailable
    # Blocks that were left out, with --skip-unverifiable.
    skipped: list[int] = field(default_factory=list)


def record(options: argparse.Namespace, stop: _StopFlag) -> _Outcome:
    """Record the missing blocks of the range.

    Raises:
        SourceError: the node does not answer, or does not have the blocks.
        UnverifiedBlock: a block does not verify.
        ValueError: the folder or the URL is invalid, or FORTA_CHAIN_ID names another chain.
        OSError: the disk failed.
    """
    limit = RateLimit(Rate(options.requests_per_second, 1.0))
    # More workers than requests per second would only wait, some beyond the timeout.
    workers = min(options.workers, options.requests_per_second)
    client = JsonRpcClient(
        options.url, timeout=options.timeout, rate_limit=limit, connections=workers
    )
    node = Node(client, options.patience, stop.event)
    chain_id, head = node.quantity("eth_chainId"), node.head(options.to_block)
    on_chain(load_settings(), chain_id, "the node")
    if options.to_block > head:
        raise RecordingError(
            f"--to-block {options.to_block}: the node's newest block is only {head}"
        )
    with (
        closing(client),
        open_writer(options.out, chain_id) as writer,
        ThreadPoolExecutor(workers, "record") as pool,
    ):
        return _Recorder(options, stop, node, TokenFetcher(node), writer, pool).run()


@dataclass(slots=True)
class _Recorder:
    options: argparse.Namespace
    stop: _StopFlag
    node: Node
    tokens: TokenFetcher
    writer: RecordingWriter
    pool: ThreadPoolExecutor
    outcome: _Outcome = field(default_factory=_Outcome)

    def run(self) -> _Outcome:
        options = self.options
        gaps = self.writer.missing(options.from_block, options.to_block)
        if gaps:
            (options.out / MANIFEST).unlink(missing_ok=True)  # the store is then incomplete
        total = options.to_block - options.from_block + 1
        done = total - sum(len(gap) for gap in gaps)
        with tqdm(total=total, initial=done, unit="block", mininterval=interval()) as progress:
            try:
                for gap in gaps:
                    self._fetch(gap, progress)
            except (_Stopped, UnverifiedBlock):
                self._write()  # write the blocks fetched so far
                raise
            except SourceError:
                if self.stop.number:
                    with suppress(SourceError):
                        self._write()
                self.stop.check()
                raise
        return self.outcome

    def _fetch(self, gap: range, progress: "tqdm[NoReturn]") -> None:
        fetcher = BlockFetcher(self.node, verify=self.options.verify)

        def skip(error: UnverifiedBlock) -> None:
            logger.warning("%s: left out", error)
            self._write()  # a part has no gaps
            self.outcome.skipped.append(error.number)
            progress.update()

        on_unverified = skip if self.options.skip_unverifiable else None
        fetching = fetcher.fetch_all(gap, self.pool, 2 * self.options.workers, on_unverified)
        with closing(fetching) as fetched:
            for rows in fetched:
                self.writer.add(rows)
                progress.update()
                if self._is_full():
                    self._write()
                self.stop.check()
        self._write()

    def _is_full(self) -> bool:
        many = self.writer.pending_blocks >= self.options.blocks_per_part
        return many or self.writer.pending_rows >= ROWS_PER_PART

    def _write(self) -> None:
        wanted = self.writer.unknown_tokens() if self.options.tokens else []
        answers = self.tokens.fetch_all(wanted, self.pool)
        self.writer.write(answer for answer in answers if answer is not None)
        self.outcome.tokens_missed += answers.count(None)


@contextmanager
def _stop_flag() -> Iterator[_StopFlag]:
    """Make SIGINT and SIGTERM set a flag, so that fetched blocks are written before the end."""
    flag = _StopFlag()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, flag.on_signal) for number in signals}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _store(folder: Path) -> Store | None:
    """The store of a recording; None where unverified blocks hold what no chain has."""
    try:
        with progress("store") as start:
            return import_history(str(folder), folder, ImportOptions(), lambda n: start(n, 0))
    except TableError as error:
        logger.warning("the recording can be replayed, but not backtested: %s", error)
        return None


def _summarise(
    options: argparse.Namespace, outcome: _Outcome, store: Store | None, seconds: float
) -> None:
    recording = Recording(options.out)
    blocks = recording.blocks(["n_transactions", "receipts_root_verified"])
    transactions = recording.transactions(["n_logs", "n_erc20_transfers"])
    logs, transfers = (pc.sum(column).as_py() or 0 for column in transactions.columns)
    unverified = blocks.num_rows - (pc.sum(blocks["receipts_root_verified"]).as_py() or 0)
    size = sum(file.stat().st_size for file in options.out.rglob("*.parquet")) / 1e6
    verified = f"{unverified:,} of them NOT verified" if unverified else "all verified"
    missed = f" ({outcome.tokens_missed:,} more are unavailable)" if outcome.tokens_missed else ""
    skipped = ""
    if outcome.skipped:
        shown = ", ".join(map(str, outcome.skipped[:_MAX_SHOWN]))
        more = ", ..." if len(outcome.skipped) > _MAX_SHOWN else ""
        skipped = (
            f"{len(outcome.skipped):,} blocks are left out: {shown}{more}."
            " The same command tries them again.\n"
        )
    sys.stdout.write(
        f"{options.out} holds {blocks.num_rows:,} blocks of chain {recording.chain_id}"
        f" ({verified}), {transactions.num_rows:,} transactions, {logs:,} logs,"
        f" {transfers:,} ERC-20 transfers, {len(recording.tokens()):,} tokens{missed};"
        f" {size:.1f} MB, {seconds:.0f} s.\n{skipped}"
        f"Next: npm run replay -- --data {options.out}\n"
    )
    if store is not None:
        sys.stdout.write(f"   or: npm run backtest -- --data {options.out} --out OUT\n")
