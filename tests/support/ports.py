"""Ports of 127.0.0.1 for servers that cannot choose one themselves."""

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody else is given, however long its server takes to start.

    A socket holds it as long as this process lives. It does not listen, so a server may, which has
    set SO_REUSEADDR, as servers do.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    return int(holder.getsockname()[1])
