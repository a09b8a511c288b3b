"""Requests to addresses that somebody gave us, and that must not lead into our own network.

A webhook's receiver is a name, and whoever runs the name decides where it points: at this machine,
at the database beside it, or at the address where a cloud hands out credentials. So each address is
checked when the connection is opened, and the connection goes to the address that was checked: a
name that points elsewhere a moment later gains nothing. TLS still proves the name.
"""

import ipaddress
import socket
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

# Ranges that lead to IPv4 addresses of the holder's choice: NAT64, 6to4, Teredo.
_TUNNELS: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)


class PrivateAddress(Exception):
    """The name leads into a private network; nothing was sent.

    Not an OSError: urllib3 would take it for a connection that failed.
    """


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet.

    Loopback, private, link-local (with the clouds' metadata), shared, reserved, multicast and
    unspecified ones are not, nor is any of them written as an IPv6 address.
    """
    try:
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
            address.partition("%")[0]
        )
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in tunnel for tunnel in _TUNNELS):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def session(*, allow_private: bool) -> requests.Session:
    """A session for requests to addresses from outside; the caller closes it.

    It follows no redirect by itself when it is told not to, as every caller must. Where the
    environment names a proxy, the proxy resolves names, and what it may reach is its own affair.

    Args:
        allow_private: whether receivers in private networks are wanted.
    """
    opened = requests.Session()
    if not allow_private:
        adapter = _PublicAdapter(max_retries=0)
        opened.mount("http://", adapter)
        opened.mount("https://", adapter)
    return opened


def _connect(connection: HTTPConnection) -> socket.socket:
    """Open a connection to the first public address of a host; refuse all if any is private.

    A name with a public and a private address is no accident: the second is for the next try.
    """
    host, port = connection._dns_host, connection.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NewConnectionError(
            connection, f"name not resolved ({type(error).__name__})"
        ) from None
    if not found or not all(is_public(str(address[0])) for *_, address in found):
        raise PrivateAddress("the receiver's name leads into a private network")
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        opened = socket.socket(family, kind, protocol)
        try:
            if isinstance(connection.timeout, int | float):
                opened.settimeout(connection.timeout)
            opened.connect(address)
        except OSError as error:
            opened.close()
            failure = error
        else:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, "timed out") from failure
    raise NewConnectionError(connection, type(failure).__name__) from failure


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _PublicAdapter(HTTPAdapter):
    """Opens connections to public addresses alone."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
