"""Benchmark the bot: `npm run bench`. Prints a table and writes a JSON file.

Every line compares two measurements of this run, taken alternately: on a shared machine, ratios
are stable while seconds are not. Exit code 0 if all limits are met, else 1.
"""

import logging
import sys
from pathlib import Path

from benchmarks.report import Line, table, write_json
from src import cli

DEFAULT_OUT = Path(__file__).parent / "results" / "latest.json"

_EPILOG = """\
examples:
  npm run bench
  npm run bench -- --quick --only kernels --out latest.json

exit codes: 0 all limits are met, 1 one is not, 2 wrong usage or failed.
"""

GROUPS = ("kernels", "handler", "cold", "start", "bridge", "guard")


@cli.command("bench", failure=cli.WRONG_USAGE)
def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = cli.parser("bench", __doc__, _EPILOG)
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument(
        "--only", action="append", choices=GROUPS, metavar="NAME",
        help=f"one group of lines, repeatable: {', '.join(GROUPS)}",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=cli.output_file, default=str(DEFAULT_OUT), help="the JSON file"
    )
    options = parser.parse_args(arguments)
    from benchmarks import groups  # noqa: PLC0415  --help needs none of it

    logging.disable(logging.INFO)
    lines: list[Line] = []
    skipped: list[str] = []
    for name in options.only or GROUPS:
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        found, missing = groups.measure(name, groups.QUICK if options.quick else groups.FULL)
        lines += found
        skipped += missing
    print(table(lines))
    for reason in skipped:
        print(f"skipped: {reason}")
    write_json(options.out, lines, skipped)
    print(f"written: {options.out}", file=sys.stderr)
    return 1 if any(line.holds is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
