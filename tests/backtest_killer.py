"""Kills backtests: `python -m tests.backtest_killer SEED TIMES OUT ARGUMENTS...`.

Each run is a fork of this process, which has no threads, and gets SIGKILL at a random moment after
its next journal entry. Prints how many were still running. A process of its own, because forking
one with threads is not sound.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from src.backtest.__main__ import main


def kill_once(chance: random.Random, journal: Path, arguments: list[str]) -> bool:
    """Start a run and kill it; whether it was still running."""
    before = len(list(journal.glob("*.json")))
    pid = os.fork()
    if pid == 0:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            os._exit(main(arguments))
    wanted = before + chance.randint(0, 2)
    while len(list(journal.glob("*.json"))) < wanted:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
    time.sleep(chance.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    chance = random.Random(int(sys.argv[1]))
    found = [
        kill_once(chance, Path(sys.argv[3]) / "journal", sys.argv[4:])
        for _ in range(int(sys.argv[2]))
    ]
    sys.stdout.write(f"{sum(found)}\n")
