"""Kills backtests: `python -m tests.backtest.killer SEED TIMES OUT ARGUMENTS...`.

Each run is a fork of this process, which has imported what they need, and gets SIGKILL at a step of
its work that is drawn by chance, see `kill_at`. Prints how many had not ended before. A process of
its own, because forking one in which Python's threads run is not sound.
"""

import os
import random
import sys
from pathlib import Path

from src.backtest import run  # noqa: F401  once, not in each fork
from src.backtest.__main__ import main
from tests.support.killing import kill_at

MAX_STEPS = 12
"""Each slice is up to three files, each of them written, synchronised and renamed."""


def kill_once(step: int, out: Path, arguments: list[str]) -> bool:
    """Start a run and kill it; whether it had not ended before."""
    pid = os.fork()
    if pid == 0:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            kill_at(step, out)
            os._exit(main(arguments))
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    chance = random.Random(int(sys.argv[1]))
    killed = [
        kill_once(chance.randint(1, MAX_STEPS), Path(sys.argv[3]), sys.argv[4:])
        for _ in range(int(sys.argv[2]))
    ]
    sys.stdout.write(f"{sum(killed)}\n")
