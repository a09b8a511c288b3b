"""Many recorded and hostile transactions, failing sources, one bot: `npm run soak`.

Feeds one bot for a stated time, or with a stated number of transactions, while its node and its
explorer fail, hang and are temporarily down, and reports lost, late and wrong findings, memory over
time and CPU time per transaction. An oracle in another process computes the expected findings with
eth_abi, exact integers and scikit-learn.

Exit code 0 if nothing was lost or wrong, hardly anything late, and memory did not grow after the
caches had filled; else 1.
"""

import argparse
import sys

from src import cli

_EPILOG = """\
examples:
  npm run soak -- --transactions 10000
  npm run soak -- --hostile-sources --transactions 5000
  npm run soak -- --minutes 30 --through-bridge --json soak.json
  npm run soak -- --guard --transactions 20000

exit codes: 0 passed, 1 not passed, 2 wrong usage or failed.
"""

LATE_SECONDS = 0.5
"""An answer is late if it takes longer than the lookup deadline plus this margin."""

DEFAULT_TRANSACTIONS = 1_000_000

DEADLINE_SECONDS = 0.05


@cli.command("soak", failure=cli.WRONG_USAGE)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parsed(arguments)
    if options.transactions is None and options.minutes is None:
        options.transactions = DEFAULT_TRANSACTIONS
    if options.guard:
        from benchmarks.soak_guard import run_guard  # noqa: PLC0415

        return run_guard(options)
    from benchmarks.soaking import run, run_hostile  # noqa: PLC0415  --help needs none of it

    return run_hostile(options) if options.hostile_sources else run(options)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("soak", __doc__, _EPILOG)
    kind = parser.add_mutually_exclusive_group()
    parser.add_argument(
        "--transactions", type=cli.positive, metavar="N",
        help=f"how many at most; default: {DEFAULT_TRANSACTIONS}, without limit if a time is given",
    )  # fmt: skip
    parser.add_argument("--minutes", type=cli.positive_number, help="for how long at most")
    parser.add_argument("--seed", type=cli.natural, default=1, help="same seed, same transactions")
    parser.add_argument(
        "--through-bridge", action="store_true",
        help="through the real forta-agent and gRPC, as on a scan node",
    )  # fmt: skip
    kind.add_argument(
        "--guard", action="store_true",
        help="transactions of eight clients through the guard, in front of a local chain; checks "
        "memory and that each is stored with its block; takes --transactions and --json alone",
    )  # fmt: skip
    kind.add_argument(
        "--hostile-sources", action="store_true",
        help="every answer of node and explorers is an attack, and every transaction has eight "
        "unknown tokens; checks memory and that nothing is lost",
    )  # fmt: skip
    parser.add_argument(
        "--recording", type=cli.path, metavar="FOLDER",
        help="half of the transactions are drawn from this recording or data set; default: that of "
        "the demo's contracts",
    )  # fmt: skip
    parser.add_argument(
        "--budget-ms", type=cli.positive_number, metavar="MS",
        default=(DEADLINE_SECONDS + LATE_SECONDS) * 1000,
        help="an answer that takes longer is late; default: %(default)g",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=cli.output_file, metavar="FILE", help="write the figures there as well"
    )
    options = parser.parse_args(arguments)
    if options.guard and (options.minutes or options.recording or options.through_bridge):
        parser.error("--guard takes --transactions and --json alone")
    if options.hostile_sources and options.recording:
        parser.error("--hostile-sources makes its own transactions: leave --recording out")
    from benchmarks.recorded import DEFAULT_RECORDING  # noqa: PLC0415  --help needs none of it

    options.recording = options.recording or DEFAULT_RECORDING
    return options


if __name__ == "__main__":
    sys.exit(main())
