"""HTTP connections that limit what an untrusted server can do.

They close two gaps of `requests`:

- its timeout applies to each read, so a server that sends one byte a second blocks a thread for
  ever: here it bounds the whole response, head and body;
- the owner of a host name decides where it points: to this machine, to the database, or to a
  cloud's metadata address with credentials. So each address is checked when the connection is
  opened, and the connection goes to the checked address, which prevents DNS rebinding. TLS still
  verifies the name.
"""

import io
import ipaddress
import logging
import socket
import time
from http import HTTPStatus
from http.client import HTTPMessage, HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

USER_AGENT = "anomalous-token-transfers"

# Ranges that map to arbitrary IPv4 addresses: NAT64, 6to4, Teredo.
_TUNNELS: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)


# Global by IANA's registry or by older Pythons, and still not of the internet: Azure's platform
# (metadata included), protocol assignments (with Oracle's metadata), the relay anycast of 6to4,
# the site-local addresses of old and documentation.
_INSIDE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "3fff::/20"
    )
)  # fmt: skip


class PrivateAddress(Exception):
    """The host name resolves to a private network; nothing was sent.

    Not an OSError: urllib3 would treat it as a failed connection.
    """


def is_public(address: str) -> bool:
    """Whether an IP address is public.

    Loopback, private, link-local and site-local, shared, reserved, multicast and unspecified
    addresses and those of cloud platforms (metadata) are not, nor are their IPv6 forms.
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
    if any(ip in network for network in _INSIDE):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def session(connections: int, *, public_only: bool = False) -> requests.Session:
    """A session without cookies and redirects, whose timeouts bound whole responses.

    Args:
        connections: size of the connection pool.
        public_only: raise PrivateAddress instead of connecting to a private network. If the
            environment configures a proxy, the proxy resolves names and this check does not apply.
    """
    # At DEBUG level urllib3 logs each request's path and query, which contain keys.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
    opened = _Session()
    opened.headers["User-Agent"] = USER_AGENT
    opened.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(connections, _Public if public_only else _Timed)
    opened.mount("http://", adapter)
    opened.mount("https://", adapter)
    return opened


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: no redirect is followed.

        Else `requests` reads the redirect's body, of any size, also where it may not follow it.
        """


def _connect(connection: HTTPConnection) -> socket.socket:
    """Connect to the first reachable address of a host; reject the host if any is private.

    A name with a public and a private address suggests an attack that uses the second on a retry.
    """
    host, port = connection._dns_host, connection.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NewConnectionError(
            connection, f"name not resolved ({type(error).__name__})"
        ) from None
    if not found or not all(is_public(str(address[0])) for *_, address in found):
        raise PrivateAddress("the receiver's host name resolves to a private network")
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


class _TimedSocket(io.RawIOBase):
    """A socket's byte stream with one time limit for all reads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stream = cast(io.RawIOBase, sock.makefile("rb", buffering=0))
        timeout = sock.gettimeout()
        self._expires = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._expires is not None:
            remaining = self._expires - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the response took too long")
            self._sock.settimeout(remaining)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedSocket(sock))

    def begin(self) -> None:
        """Read the head, and interim ones before it, of which the base class knows only 100.

        Taken for the response, an interim one would leave the response to the next request.
        """
        super().begin()
        while HTTPStatus.SWITCHING_PROTOCOLS < self.status < HTTPStatus.OK:
            self.headers = cast(HTTPMessage, None)
            super().begin()


class _Timed:
    """Behaviour that our connections add to urllib3's."""

    response_class = _TimedResponse


class _Public(_Timed):
    def _new_conn(self) -> socket.socket:
        return _connect(cast(HTTPConnection, self))


class _Adapter(HTTPAdapter):
    """Uses our connection classes."""

    def __init__(self, connections: int, kind: type[_Timed]) -> None:
        self._kind = kind
        super().__init__(pool_connections=2, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use(self.poolmanager, self._kind)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        manager = cast(ProxyManager, super().proxy_manager_for(*args, **kwargs))
        _use(manager, _Timed)  # the operator's proxy may be in a private network
        return manager


def _use(manager: PoolManager, kind: type[_Timed]) -> None:
    manager.pool_classes_by_scheme = {
        scheme: type("Pool", (pool,), {"ConnectionCls": type("Connection", (kind, connection), {})})
        for scheme, pool, connection in (
            ("http", HTTPConnectionPool, HTTPConnection),
            ("https", HTTPSConnectionPool, HTTPSConnection),
        )
    }
