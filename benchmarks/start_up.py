"""What starting costs: import and `initialize`, in a fresh process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.cgroup import cpu_group
from benchmarks.report import Line
from benchmarks.timing import Timing, median
from src.settings import PROJECT_ROOT, SETTINGS

START_CPU_SECONDS = 3.0
MEMORY_MB = 250.0

_BOT = "import src.agent; src.agent.initialize()"
_EMPTY = "import forta_agent"
_MEASURE = """
import json, os, resource, sys, time
wall = time.perf_counter()
exec(sys.argv[1])
with open("/proc/self/statm") as file:
    resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "cpu": usage.ru_utime + usage.ru_stime,
    "wall": time.perf_counter() - wall,
    "resident": resident,
}))
"""
_IN_GROUP = 'echo $$ > "$0"; exec "$@"'


def measure(*, rounds: int, cores: float) -> Iterator[Line]:
    """Start the bot and an empty bot alternately; once more under a quota where possible."""
    bots: list[Timing] = []
    empties: list[Timing] = []
    resident: list[float] = []
    resident_empty: list[float] = []
    for _ in range(rounds):
        timing, memory = _start(_BOT)
        bots.append(timing)
        resident.append(memory)
        timing, memory = _start(_EMPTY)
        empties.append(timing)
        resident_empty.append(memory)
    yield Line(
        "start", "start: import and initialize", median(bots).cpu, median(empties).cpu,
        "import forta_agent", limit=START_CPU_SECONDS,
    )  # fmt: skip
    yield Line(
        "start", "resident memory after initialize", max(resident), max(resident_empty),
        "import forta_agent", unit="MB", kind="", limit=MEMORY_MB,
    )  # fmt: skip
    with cpu_group(cores) as group:
        if group is not None:
            procs = str(group.folder / "cgroup.procs")
            throttled, _ = _start(_BOT, procs)
            empty, _ = _start(_EMPTY, procs)
            yield Line(
                "start", f"start, {cores:g} CPU", throttled.wall, empty.wall,
                "import forta_agent", kind="wall",
            )  # fmt: skip


def _start(code: str, group_file: str | None = None) -> tuple[Timing, float]:
    command = [sys.executable, "-c", _MEASURE, code]
    if group_file is not None:
        command = ["sh", "-c", _IN_GROUP, group_file, *command]
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    output = subprocess.run(
        command,
        cwd=PROJECT_ROOT,
        env={**environment, "JSON_RPC_URL": "http://127.0.0.1:1", "FORTA_CHAIN_ID": "1"},
        check=True, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    measured = json.loads(output)
    return Timing(measured["cpu"], measured["wall"]), measured["resident"]
