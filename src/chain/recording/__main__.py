"""Record blocks from a node: `npm run record -- --from-block A --to-block B --out DIR`."""

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
from types import FrameType
from typing import NoReturn

import pyarrow.compute as pc
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from src import cli
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import SourceError
from src.chain.recording.fetch import (
    DEFAULT_PATIENCE,
    BlockFetcher,
    Node,
    UnverifiedBlock,
)
from src.chain.recording.format import Recording, RecordingError, RecordingWriter, open_writer
from src.chain.recording.tokens import TokenFetcher

URL_VARIABLE = "JSON_RPC_URL"
ROWS_PER_PART = 200_000
_MAX_SHOWN = 20

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Record blocks from an Ethereum node as parquet: transactions, receipts with all logs, and token
metadata. Every block's receipts are checked against the root in its header, so that no log can be
missing. Run the same command again to resume or to extend a recording.
"""
_EPILOG = """\
The node's URL is read from the environment variable JSON_RPC_URL unless --url is given. Old blocks
need a full node that keeps receipts, but no archive node.

examples:
  JSON_RPC_URL=http://127.0.0.1:8545 \\
    npm run record -- --from-block 18000000 --to-block 18000099 --out recordings/august
  npm run replay -- --data recordings/august

exit codes: 0 recorded, 1 failed, 2 wrong usage, 130 or 143 stopped by a signal. The recording is
consistent in every case, and the same command resumes.
"""


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


@cli.command("record", resumes=True)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
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
    _summarise(options, outcome, time.monotonic() - started)
    return 0


@dataclass(slots=True)
class _Outcome:
    """What could not be recorded.

    Attributes:
        tokens_missed: number of tokens whose metadata is unavailable.
        skipped: blocks that were left out, with --skip-unverifiable.
    """

    tokens_missed: int = 0
    skipped: list[int] = field(default_factory=list)


def record(options: argparse.Namespace, stop: _StopFlag) -> _Outcome:
    """Record the missing blocks of the range.

    Raises:
        SourceError: the node does not answer, or does not have the blocks.
        UnverifiedBlock: a block does not verify.
        ValueError: the folder or the URL is invalid.
        OSError: the disk failed.
    """
    limit = RateLimit(Rate(options.requests_per_second, 1.0))
    # More workers than requests per second would only wait, some beyond the timeout.
    workers = min(options.workers, options.requests_per_second)
    client = JsonRpcClient(
        options.url, timeout=options.timeout, rate_limit=limit, connections=workers
    )
    node = Node(client, options.patience, stop.event)
    chain_id, head = (node.quantity(method) for method in ("eth_chainId", "eth_blockNumber"))
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
        total = options.to_block - options.from_block + 1
        done = total - sum(len(gap) for gap in gaps)
        with tqdm(total=total, initial=done, unit="block", mininterval=_interval()) as progress:
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


def _interval() -> float:
    """Seconds between two progress lines; longer if they go to a file."""
    return 0.1 if sys.stderr.isatty() else 10.0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("record", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--from-block", type=cli.natural, required=True, metavar="A", help="first block, included")
    add("--to-block", type=cli.natural, required=True, metavar="B", help="last block, included")
    add(
        "--out", type=cli.output_folder, required=True, metavar="DIR", help="the recording's folder"
    )
    add("--url", default=os.environ.get(URL_VARIABLE), help=f"the node (default: ${URL_VARIABLE})")
    add(
        "--workers",
        type=cli.positive,
        default=8,
        metavar="N",
        help="blocks fetched in parallel (8)",
    )
    add(
        "--requests-per-second",
        type=cli.positive,
        default=25,
        metavar="N",
        help="maximum requests to the node per second (25)",
    )
    add(
        "--timeout",
        type=cli.positive_number,
        default=30.0,
        metavar="S",
        help="timeout of a request in seconds (30)",
    )
    add(
        "--patience",
        type=cli.positive_number,
        default=DEFAULT_PATIENCE,
        metavar="S",
        help="seconds to retry a failing node (120)",
    )
    add(
        "--blocks-per-part",
        type=cli.positive,
        default=100,
        metavar="N",
        help="maximum blocks per part, all of which are fetched again after a kill (100)",
    )
    add(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="also record blocks whose receipts do not match the header, as unverified",
    )
    add(
        "--skip-unverifiable",
        action="store_true",
        help="leave out blocks that the node has only incomplete or wrong, instead of stopping",
    )
    add(
        "--no-tokens",
        dest="tokens",
        action="store_false",
        help="do not record tokens' names, symbols and decimals",
    )
    options = parser.parse_args(arguments)
    if options.from_block > options.to_block:
        parser.error("--from-block is after --to-block")
    if not options.url:
        parser.error(f"no node: set {URL_VARIABLE} or pass --url")
    return options


def _summarise(options: argparse.Namespace, outcome: _Outcome, seconds: float) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
