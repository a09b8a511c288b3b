"""`npm run fuzz`: fuzz all code that reads untrusted input, and report findings.

  npm run fuzz                                   every target, a minute in total, and properties
  npm run fuzz -- --inputs 10000000              this many inputs in total, over all targets
  npm run fuzz -- --target events --seconds 600
  npm run fuzz -- --target properties            the tests' properties, on new examples
  npm run fuzz -- --target events --replay HEX   replay one input, with its traceback

`properties` are the Hypothesis tests below `tests/`: `npm test` uses the same examples each time,
this command generates new ones. Each of the other targets runs in its own process. Exit code 0: no
findings; 1: findings, with the inputs in the report; 2: wrong usage, or the report is not writable.
There are two engines: `atheris` (libFuzzer, coverage-guided) and `random` (several times as many
inputs, without guidance). `auto` uses both, with half of the time or inputs each, if atheris is
installed (requirements/fuzz.txt; Linux), else only random.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.target import KINDS, Target
from fuzz.targets import TARGETS
from src import cli
from src.demo.processes import supervised
from src.files import write_file

PROPERTIES = "properties"

_ROOT = Path(__file__).resolve().parent.parent
# Without progress for this long, a target hangs; importing and compiling at the start is slow.
_HANG_SECONDS = 60.0
_START_SECONDS = 240.0
_POLL_SECONDS = 0.5
_MAX_RESTARTS = 5
_SHOWN_HEX = 200


@dataclass(slots=True)
class Outcome:
    """The result of one target with one engine, over all its processes."""

    target: str
    engine: str
    inputs: int
    seconds: float
    slowest: float
    peak_megabytes: int
    reached: dict[str, int]
    findings: list[dict[str, Any]]


def run_target(
    target: Target, engine: str, seed: int, *, inputs: int | None, seconds: float | None
) -> Outcome:
    """Run one target until its inputs or its time are used up; restarts dead processes."""
    outcome = Outcome(target.name, engine, 0, 0.0, 0.0, 0, {}, [])
    for restart in range(_MAX_RESTARTS + 1):
        left_inputs = None if inputs is None else inputs - outcome.inputs
        left_seconds = None if seconds is None else seconds - outcome.seconds
        with _scratch() as folder:
            job = {
                "target": target.name, "engine": engine, "seed": seed + 1000 * restart,
                "inputs": left_inputs, "seconds": left_seconds, "folder": str(folder),
            }  # fmt: skip
            finished = _run_process(job, folder, outcome)
        if finished:
            break
    return outcome


def _run_process(job: dict[str, Any], folder: Path, outcome: Outcome) -> bool:
    """Run one process to its end and add its results; returns whether it exited normally."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            supervised([sys.executable, "-m", "fuzz.worker", json.dumps(job)]),
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        hung = _wait(process, folder / "report.json")
    report = _read_report(folder / "report.json")
    outcome.inputs += report.get("inputs", 0)
    outcome.seconds += report.get("seconds", 0.0)
    outcome.slowest = max(outcome.slowest, report.get("slowest", 0.0))
    outcome.peak_megabytes = max(outcome.peak_megabytes, report.get("peak_megabytes", 0))
    for name, count in report.get("reached", {}).items():
        outcome.reached[name] = outcome.reached.get(name, 0) + count
    outcome.findings += report.get("findings", [])
    if report.get("finished") and not hung:
        return True
    current = (folder / "current").read_bytes() if (folder / "current").exists() else bytes(4)
    tail = log.read_text(errors="replace")[-2000:]
    outcome.findings.append(
        {
            "kind": "hang" if hung else "crash",
            "error": "no progress" if hung else f"the process ended with {process.returncode}",
            "place": " | ".join(tail.strip().splitlines()[-12:]),
            "input": current[4 : 4 + int.from_bytes(current[:4])].hex(),
            "times": 1,
        }
    )
    return False


def _wait(process: subprocess.Popen[bytes], report: Path) -> bool:
    """Wait for the process; if it makes no progress, kill it and return True."""
    last: tuple[int, float] | None = None
    since = time.monotonic()
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        content = _read_report(report)
        progress = (content.get("inputs", 0), content.get("seconds", 0.0))
        if progress != last:
            last, since = progress, time.monotonic()
        allowed = _HANG_SECONDS if content else _START_SECONDS
        if time.monotonic() - since > allowed:
            process.kill()
            process.wait()
            return True
    return False


def properties_hold(seed: int | None) -> bool:
    """Run the property tests on examples from the seed, or on random ones."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "hypothesis", "tests"]
    command += ["--hypothesis-profile=explore"]
    if seed is not None:
        command.append(f"--hypothesis-seed={seed}")
    return subprocess.run(command, cwd=_ROOT, check=False).returncode == 0


def _read_report(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


@contextmanager
def _scratch() -> Iterator[Path]:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def engines(wanted: str) -> list[str]:
    """The engines of a run."""
    if wanted != "auto":
        return [wanted]
    return ["random", "atheris"] if importlib.util.find_spec("atheris") else ["random"]


def show(outcome: Outcome) -> str:
    """One line per result, and a paragraph per finding."""
    rate = outcome.inputs / outcome.seconds if outcome.seconds else 0.0
    reached = ", ".join(f"{name} {count:,}" for name, count in outcome.reached.items())
    lines = [
        f"{outcome.target:10} {outcome.engine:8} {outcome.inputs:>11,} inputs"
        f" {outcome.seconds:7.0f} s"
        f" {rate:9,.0f}/s  slowest {outcome.slowest * 1000:7.1f} ms"
        f"  {outcome.peak_megabytes:5} MB  {reached}"
    ]
    for found in outcome.findings:
        lines.append(f"  {found['kind'].upper()} x{found['times']}: {found['error']}")
        lines.append(f"    at {found['place']}")
        shown = found["input"] if len(found["input"]) <= _SHOWN_HEX else "(in the --json report)"
        lines.append(
            f"    replay: npm run fuzz -- --target {outcome.target} --replay {shown or '00'}"
        )
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> str:
    """All targets together."""
    counts = dict.fromkeys(KINDS, 0)
    for outcome in outcomes:
        for found in outcome.findings:
            counts[found["kind"]] += 1
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    return f"{sum(outcome.inputs for outcome in outcomes):,} inputs; findings: {kinds}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    targets = "\n".join(f"  {target.name:16} {target.about}" for target in TARGETS.values())
    parser = cli.parser("fuzz", __doc__, f"targets:\n{targets}\n")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", type=cli.positive_number, help="of all targets together (default: 60)"
    )
    length.add_argument("--inputs", type=cli.positive, help="of all targets together")
    parser.add_argument(
        "--target", action="append", choices=sorted([*TARGETS, PROPERTIES]), help="may be repeated"
    )
    parser.add_argument("--engine", choices=("auto", "atheris", "random"), default="auto")
    parser.add_argument("--seed", type=cli.natural, help="(default: 1; chance for the properties)")
    parser.add_argument(
        "--replay", type=_hexadecimal, metavar="HEX", help="replay this input of one --target"
    )
    parser.add_argument(
        "--json", type=cli.output_file, metavar="FILE", help="also write the report there"
    )
    options = parser.parse_args(arguments)
    if options.replay is not None and (
        len(options.target or ()) != 1 or options.target == [PROPERTIES]
    ):
        parser.error("--replay needs exactly one --target other than properties")
    if options.engine == "atheris" and not importlib.util.find_spec("atheris"):
        parser.error(
            "atheris is not installed: .venv/bin/python -m pip install --no-deps --require-hashes"
            " -r requirements/fuzz.txt"
        )
    return options


def _hexadecimal(text: str) -> str:
    try:
        return bytes.fromhex(text).hex()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not bytes in hexadecimal") from None


def _replay(name: str, content: str) -> int:
    with _scratch() as folder:
        job = {"target": name, "inputs": None, "seconds": None, "folder": str(folder)}
        command = [sys.executable, "-m", "fuzz.worker", json.dumps({**job, "replay": content})]
        return subprocess.run(command, cwd=_ROOT, check=False).returncode


@cli.command("fuzz", failure=cli.WRONG_USAGE)
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    options = _parse(arguments)
    if options.replay is not None:
        return _replay(options.target[0], options.replay)
    wanted = options.target or [*TARGETS, PROPERTIES]
    chosen = [TARGETS[name] for name in wanted if name != PROPERTIES]
    kinds = engines(options.engine)
    all_inputs = sum(target.inputs_share for target in chosen) * len(kinds)
    all_time = sum(target.time_share for target in chosen) * len(kinds)
    seconds = None if options.inputs else (options.seconds or 60.0)
    outcomes = []
    for target in chosen:
        for engine in kinds:
            outcome = run_target(
                target,
                engine,
                1 if options.seed is None else options.seed,
                inputs=max(1, round(options.inputs * target.inputs_share / all_inputs))
                if options.inputs
                else None,
                seconds=seconds and max(1.0, seconds * target.time_share / all_time),
            )
            outcomes.append(outcome)
            sys.stdout.write(show(outcome) + "\n")
            sys.stdout.flush()
    if chosen:
        sys.stdout.write(summary(outcomes) + "\n")
        sys.stdout.flush()
    if options.json:
        content = [{name: getattr(o, name) for name in Outcome.__slots__} for o in outcomes]
        write_file(options.json, (json.dumps(content, indent=1) + "\n").encode())
    held = not any(outcome.findings for outcome in outcomes)
    if PROPERTIES in wanted:
        held = properties_hold(options.seed) and held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
