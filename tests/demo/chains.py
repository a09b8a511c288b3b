"""Hashes of no chain, and transactions that were played on one."""

import socket

from src.demo.scenarios import Played
from src.demo.world import World

HASH = "0x" + "ab" * 32

OTHER_HASH = "0x" + "cd" * 32


def answers(url: str) -> bool:
    port = int(url.rsplit(":", 1)[1])
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def by_key(stage: tuple[World, list[Played]], key: str) -> Played:
    return next(played for played in stage[1] if played.scenario.key == key)
