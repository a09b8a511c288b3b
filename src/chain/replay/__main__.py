"""Serve recorded blocks as an Ethereum node: `npm run replay -- --data DIR --port N`."""

import argparse
import signal
import sys
import time
from contextlib import suppress

from src import cli
from src.chain.recording.format import Recording
from src.chain.replay.chain import RecordedChain
from src.chain.replay.methods import ReplayMethods
from src.chain.replay.server import RpcServer
from src.files import reason

DEFAULT_PORT = 8545
_POLL_SECONDS = 0.1

_DESCRIPTION = """\
Serve recorded blocks and receipts as an Ethereum node (JSON-RPC over HTTP), so that the bot and
other clients can run on real history without a network and get reproducible responses.

Requests for data that is not in the recording get the JSON-RPC error -32001, never an invented
value. Stop with Ctrl-C.
"""
_EPILOG = """\
examples:
  npm run record -- --from-block 18000000 --to-block 18000009 --out recordings/august
  npm run replay -- --data recordings/august
  JSON_RPC_URL=http://127.0.0.1:8545 npm run block -- 18000000 --nocache
"""


@cli.command("replay")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    cli.log_to_stderr()
    started = time.monotonic()
    chain = RecordedChain(Recording(options.data))
    try:
        server = RpcServer((options.host, options.port), ReplayMethods(chain).methods)
    except OSError as error:
        raise cli.CommandError(
            f"{options.host}:{options.port}: {reason(error)}; choose another with --port"
        ) from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _announce(chain, server.url, time.monotonic() - started)
    _serve(server)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("replay", _DESCRIPTION, _EPILOG)
    parser.add_argument("--data", type=cli.path, required=True, metavar="DIR", help="a recording")
    parser.add_argument(
        "--port",
        type=cli.port,
        default=DEFAULT_PORT,
        metavar="N",
        help=f"port to listen on, 0 for any free one (default: {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _announce(chain: RecordedChain, url: str, seconds: float) -> None:
    lines = [
        f"Replaying chain {chain.chain_id} at {url}: {len(chain.numbers):,} blocks"
        f" ({chain.describe_ranges(3)}), {chain.transaction_count:,} transactions;"
        f" ready in {seconds:.1f} s.",
        "In another terminal, try:",
        f"  export JSON_RPC_URL={url}",
    ]
    if example := _example(chain):
        lines.append(f"  npm run tx -- {example} --nocache")
    lines.append(f"  npm run block -- {chain.head} --nocache")
    if several := [run for run in chain.ranges() if run[0] < run[1]]:
        first, last = several[-1]
        lines.append(f"  npm run range -- {max(first, last - 9)}..{last} --nocache")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _example(chain: RecordedChain) -> str:
    """The hash of a transaction, with logs if the newest blocks have one."""
    found = ""
    for number in reversed(chain.blocks_with_transactions()[-20:]):
        for receipt in chain.block(number).receipts:
            found = str(receipt["transactionHash"])
            if receipt["logs"]:
                return found
    return found


def _serve(server: RpcServer) -> None:
    """Serve until SIGTERM or SIGINT."""
    with server, suppress(KeyboardInterrupt):
        server.serve_forever(_POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
