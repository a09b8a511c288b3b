"""Runs one target in a separate process, which it may crash.

The current input is written to a shared file before it is tried, so that the parent has it after a
crash or a hang. Progress is written about twice a second.
"""

import contextlib
import faulthandler
import json
import mmap
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.target import Bench, Violation

MAX_INPUT_BYTES = 1024
MAX_FINDINGS = 20
_SLOW_SECONDS = 5.0  # machines that fuzz are busy; a transaction has 30
_REPORT_SECONDS = 0.5
_ADDRESS_SPACE_BYTES = 8 * 2**30
_ROOT = Path(__file__).resolve().parent.parent


class Run:
    """One target's run: tries inputs and records the results."""

    def __init__(
        self, name: str, folder: Path, *, inputs: int | None, seconds: float | None
    ) -> None:
        self._one: Callable[[bytes], None] = lambda _: None
        self._bench = Bench(folder)
        self._report_path = folder / "report.json"
        current = folder / "current"
        current.write_bytes(bytes(MAX_INPUT_BYTES + 4))
        with current.open("r+b") as file:
            self._current = mmap.mmap(file.fileno(), 0)
        self._inputs = inputs
        self._seconds = seconds
        self._started = self._reported = time.monotonic()
        self._findings: dict[str, dict[str, Any]] = {}
        self.tried = 0
        self.slowest = 0.0
        self._name = name

    def prepare(self, instrument: bool) -> None:
        """Import the target, with coverage counters where the engine wants them."""
        with _instrumented() if instrument else contextlib.nullcontext():
            from fuzz.targets import TARGETS  # noqa: PLC0415 - imports the code under attack

            self._one = TARGETS[self._name].prepare(self._bench)
        self._started = self._reported = time.monotonic()
        self.report()

    def try_one(self, content: bytes) -> None:
        """Try one input; ends the process when the run is over."""
        content = content[:MAX_INPUT_BYTES]
        self._current[: 4 + len(content)] = len(content).to_bytes(4) + content
        before = time.perf_counter()
        try:
            self._one(content)
        except Exception as error:  # noqa: BLE001 - whatever escapes is what we look for
            self._note(error, content)
        took = time.perf_counter() - before
        self.slowest = max(self.slowest, took)
        if took > _SLOW_SECONDS:
            self._note(Violation("hang", f"one input took {took:.1f} s"), content)
        self.tried += 1
        now = time.monotonic()
        over = self.tried == self._inputs or (
            self._seconds is not None and now - self._started >= self._seconds
        )
        if over or now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self.report(finished=over)
        if over:
            sys.stderr.flush()
            os._exit(0)  # libFuzzer has no other way to stop normally

    def report(self, finished: bool = False) -> None:
        """Write the results so far, atomically."""
        content = {
            "inputs": self.tried,
            "seconds": round(time.monotonic() - self._started, 1),
            "slowest": round(self.slowest, 4),
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "reached": dict(sorted(self._bench.reached.items())),
            "findings": list(self._findings.values()),
            "finished": finished,
        }
        temporary = self._report_path.with_suffix(".new")
        temporary.write_text(json.dumps(content))
        temporary.replace(self._report_path)

    def _note(self, error: Exception, content: bytes) -> None:
        kind = error.kind if isinstance(error, Violation) else "crash"
        frames = traceback.extract_tb(error.__traceback__)
        place = ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-4:])
        key = f"{kind} {type(error).__name__} {place}"
        if key in self._findings:
            found = self._findings[key]
            found["times"] += 1
            if len(content) < len(found["input"]) // 2:  # the shortest says most
                found["input"] = content.hex()
        elif len(self._findings) < MAX_FINDINGS:
            self._findings[key] = {
                "kind": kind,
                "error": f"{type(error).__name__}: {str(error)[:300]}",
                "place": place,
                "input": content.hex(),
                "times": 1,
            }


def compiled_modules() -> list[str]:
    """What numba compiles from its bytecode, which instrumentation would change."""
    return [
        ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        for path in sorted((_ROOT / "src").rglob("*.py"))
        if "numba" in path.read_text(encoding="utf-8")
    ]


def _instrumented() -> contextlib.AbstractContextManager[object]:
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: PLC0415

    context: contextlib.AbstractContextManager[object] = atheris.instrument_imports(
        include=["src"], exclude=compiled_modules()
    )
    return context


def run_atheris(run: Run, seed: int, corpus: Path) -> None:
    """Run libFuzzer, which chooses inputs by code coverage."""
    import atheris  # noqa: PLC0415 - optional

    corpus.mkdir(exist_ok=True)
    arguments = [
        sys.argv[0], f"-seed={seed}", f"-max_len={MAX_INPUT_BYTES}", "-timeout=60",
        "-rss_limit_mb=4096", "-len_control=10", "-verbosity=0", str(corpus),
    ]  # fmt: skip
    atheris.Setup(arguments, run.try_one)
    atheris.Fuzz()


def run_random(run: Run, seed: int) -> None:
    """Random bytes of random length, the short ones more often."""
    source = random.Random(seed)
    while True:
        run.try_one(source.randbytes(int(MAX_INPUT_BYTES ** source.random())))


def main() -> None:
    """`python -m fuzz.worker JOB`, where JOB is the job as JSON."""
    job = json.loads(sys.argv[1])
    faulthandler.enable()
    with contextlib.suppress(ValueError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, resource.RLIM_INFINITY))
    folder = Path(job["folder"])
    run = Run(job["target"], folder, inputs=job["inputs"], seconds=job["seconds"])
    if "replay" in job:
        run.prepare(instrument=False)
        run._one(bytes.fromhex(job["replay"]))
        return
    run.prepare(instrument=job["engine"] == "atheris")
    if job["engine"] == "atheris":
        run_atheris(run, job["seed"], folder / "corpus")
    else:
        run_random(run, job["seed"])


if __name__ == "__main__":
    main()
