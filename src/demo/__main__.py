"""`npm run demo`: the bot's main job on a local chain, with no key and no network.

    npm run demo [-- --json | --keep | --guard | --chain NAME | --port N]

Starts a local chain with well-known tokens, runs everyday transactions and a theft on it, runs the
real `forta-agent` CLI on them and shows the bot's findings. All processes and files are removed at
the end, even if the demo is killed.

Exit codes: 0 the findings are as expected, 1 they are not or something failed, 2 wrong options,
128 + the signal's number if stopped by a signal.
"""

import argparse
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Final

from src import cli
from src.demo import outcome as judging
from src.demo.anvil import Chain, anvil
from src.demo.contracts import Contract, compile_contracts
from src.demo.forta_cli import run_cli
from src.demo.outcome import Outcome
from src.demo.scenarios import SCENARIOS, Played, play
from src.demo.terminal import Report
from src.demo.world import BLOCK_SECONDS, GENESIS, World, build

# The local node has no rate limit to respect, but a busy machine needs more time.
_BOT_SETTINGS: Final = {
    "JSON_RPC_REQUESTS_PER_SECOND": "1000", "LOOKUP_DEADLINE_SECONDS": "25",
    "BLOCK_SECONDS": str(BLOCK_SECONDS),
}  # fmt: skip
_DESCRIPTION: Final = """\
The bot's main job on a local chain: no key, no network.
"""
_EPILOG: Final = """\
ANOMALY_THRESHOLD and MODEL_PATH of the environment apply to the demo too.

examples:
  npm run demo
  npm run demo -- --guard
  npm run demo -- --json
  npm run demo -- --chain base
  npm run demo -- --keep --port 8545

exit codes: 0 the findings are as expected, 1 they are not or something failed, 2 wrong usage,
128 + N stopped by signal N.
"""
_NEXT: Final = (
    ("npm run demo -- --json", "each finding in full, as Forta receives it"),
    ("npm run demo -- --guard", "the same through a proxy that refuses the theft"),
    ("npm run demo -- --keep", "keep this chain running, to try the bot's other modes on it"),
    ("npm run serve", "web pages and an API, on recorded blocks of such a chain"),
    ("npm run tx -- HASH", "a transaction of your own node; see the README"),
)
_NEXT_TO_GUARDED: Final = (
    ("npm run demo -- --guard --keep", "keep the guard running, to see its pages"),
    ("npm run guard", "the guard in front of your own node; see docs/screening.md"),
)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(SystemExit):
    """A signal requested the end: unwinds the `with` blocks, which clean up."""


@cli.command("demo")
def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    options = _parse(arguments)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without block characters
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    _say("Compiling the contracts ...")
    code = compile_contracts()
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        _say("Starting a local chain ...")
        with anvil(
            timestamp=GENESIS, port=options.port, folder=home, chain_id=options.chain
        ) as chain:
            if options.guard:
                return _run_guarded(options, chain, code, home)
            played = _play(chain, code)
            _say("Running the bot on them with the forta-agent CLI; this takes some seconds ...")
            hashes = ",".join(one.transaction_hash for one in played)
            result = run_cli(
                "tx", hashes, json_rpc_url=chain.url, home=home, settings=_BOT_SETTINGS
            )
            outcomes = judging.judge(played, result.findings)
            problems = judging.problems(outcomes)
            _say(f"Done in {time.monotonic() - began:.0f} s.")
            if options.json:
                _print_json(outcomes, problems)
            else:
                _print_report(outcomes)
            for problem in problems:
                _say(f"Unexpected result: {problem}")
            if problems:
                _say(_advice(result.output))
            if options.keep:
                _keep(chain, home / "cache", outcomes)
    return 1 if problems else 0


def _run_guarded(
    options: argparse.Namespace, chain: Chain, code: Mapping[str, Contract], home: Path
) -> int:
    """The same transactions, sent through the guard."""
    from src.demo import guarded  # noqa: PLC0415  brings web3

    world = _build(chain, code)
    _say("Starting the guard in front of the chain; this takes some seconds ...")
    with guarded.guard(chain, home) as url:
        _say(f"Sending {len(SCENARIOS) + 2} transactions through {url} with web3.py ...")
        results = guarded.play(world, url)
        problems = guarded.problems(results)
        if options.json:
            sent = [asdict(one) for one in results]
            print(json.dumps({"ok": not problems, "problems": problems, "sent": sent}, indent=2))
        else:
            report = Report(sys.stdout)
            report.heading("What the guard did before each was mined")
            report.guarded(results)
            report.commands(_NEXT_TO_GUARDED)
        for problem in problems:
            _say(f"Unexpected result: {problem}")
        if options.keep:
            _say(f"The guard stays at {url}, in front of {chain.url}, until Ctrl-C.")
            _say(f"Its page is {url}/ui/screenings")
            with suppress(_Stopped):
                threading.Event().wait()
    return 1 if problems else 0


def _build(chain: Chain, code: Mapping[str, Contract]) -> World:
    _say("Deploying tokens, markets and a lending pool, and letting 150 days pass ...")
    return build(chain, code)


def _play(chain: Chain, code: Mapping[str, Contract]) -> list[Played]:
    world = _build(chain, code)
    _say(f"Playing {len(SCENARIOS)} transactions ...")
    return play(world, SCENARIOS)


def _print_json(outcomes: list[Outcome], problems: list[str]) -> None:
    transactions = [outcome.as_json() for outcome in outcomes]
    answer = {"ok": not problems, "problems": problems, "transactions": transactions}
    print(json.dumps(answer, indent=2), flush=True)


def _print_report(outcomes: list[Outcome]) -> None:
    report = Report(sys.stdout)
    report.heading("Findings")
    report.table(outcomes)
    anomalous = [o for o in outcomes if o.answer == judging.ANOMALOUS]
    if anomalous:
        most = max(anomalous, key=lambda o: o.score or 0.0)
        report.verdict(most)
        report.reasons(most)
    report.commands(_NEXT)


def _advice(output: str) -> str:
    changed = [name for name in ("ANOMALY_THRESHOLD", "MODEL_PATH") if os.environ.get(name)]
    if changed:
        return f"{' and '.join(changed)} of your environment may be the reason."
    return f"The end of the bot's own output:\n{output[-1_000:].strip()}"


def _keep(chain: Chain, cache: Path, outcomes: list[Outcome]) -> None:
    """Print how to use the chain, and keep it running until a signal."""
    blocks = int(chain.rpc("eth_blockNumber"), 16)
    last = outcomes[-1].played.transaction_hash
    _say(f"The chain stays at {chain.url} until Ctrl-C. In another terminal:")
    for line in (
        f"export JSON_RPC_URL={chain.url} CACHE_DIR={cache} BLOCK_SECONDS={BLOCK_SECONDS}",
        f"npm run tx -- {last} --nocache",
        f"npm run block -- {blocks} --nocache",
        f"npm run range -- {blocks - 9}..{blocks} --nocache",
    ):
        print(f"  {line}", file=sys.stderr)
    with suppress(_Stopped):
        threading.Event().wait()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("demo", _DESCRIPTION, _EPILOG)
    parser.add_argument("--json", action="store_true", help="print everything as JSON on stdout")
    parser.add_argument("--keep", action="store_true", help="keep the chain running until Ctrl-C")
    parser.add_argument(
        "--chain", type=cli.chain, default=1, metavar="CHAIN",
        help="play on another chain, with its tokens: a name such as base, or an id",
    )  # fmt: skip
    parser.add_argument(
        "--guard", action="store_true", help="send everything through the screening proxy instead"
    )
    parser.add_argument(
        "--port",
        type=cli.port,
        default=0,
        metavar="N",
        help="port of the chain (default: a free one)",
    )
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(f"[demo] {text}", file=sys.stderr, flush=True)


def _stop(number: int, _frame: FrameType | None) -> None:
    # A terminal's Ctrl-C arrives twice, from the terminal and from npm.
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise _Stopped(128 + number)


if __name__ == "__main__":
    sys.exit(main())
