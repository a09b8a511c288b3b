"""Authentication, host and origin checks, and rate limits."""

import base64
import binascii
import hashlib
import hmac
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

from src.chain.clients.rate_limit import Rate, RateLimit
from src.service.settings import ServiceSettings

LOCAL = "local"
"""The client name on a service without keys, which only this machine can reach."""

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")
_BURST_SECONDS = 4.0
_MAX_CLIENTS = 10_000


class Gatekeeper:
    """Checks API keys, by hash and in constant time."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._keys = settings.api_keys
        hosts = settings.allowed_hosts or (() if settings.api_keys else _LOOPBACK_HOSTS)
        self._hosts = frozenset(host.lower() for host in hosts)

    def client(self, headers: Mapping[str, str]) -> str | None:
        """The name of the request's key, or None without a valid key."""
        if not self._keys:
            return LOCAL
        shown = hashlib.sha256(_shown_key(headers).encode("utf-8", "replace")).digest()
        found = [key.name for key in self._keys if hmac.compare_digest(shown, key.digest)]
        return found[0] if found else None

    def knows_host(self, host: str) -> bool:
        """Whether a `Host` is allowed: prevents DNS rebinding by other sites."""
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        return not self._hosts or name.lower() in self._hosts


def is_cross_site(headers: Mapping[str, str], allowed_origins: Collection[str] = ()) -> bool:
    """Whether a page of another site sent this request; browsers attach credentials to it.

    Pages of `allowed_origins` may.
    """
    origin = headers.get("origin")
    if origin is not None and origin in allowed_origins:
        return False
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return True
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != headers.get("host", "")
    except ValueError:  # no URL
        return True


class ClientLimits:
    """One rate limit per client, for the most recent clients.

    Args:
        per_second: requests of one client in this process.
        clock: seconds, never going back.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate = Rate(max(1, math.ceil(per_second * _BURST_SECONDS)), _BURST_SECONDS)
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()
        self._lock = threading.Lock()

    def allows(self, client: str) -> bool:
        """Count a request of a client; False if it exceeds the limit."""
        with self._lock:
            limit = self._limits.get(client)
            if limit is None:
                limit = self._limits[client] = RateLimit(self._rate, clock=self._clock)
            self._limits.move_to_end(client)
            if len(self._limits) > _MAX_CLIENTS:
                self._limits.popitem(last=False)
        return limit.try_acquire()


def _shown_key(headers: Mapping[str, str]) -> str:
    if key := headers.get("x-api-key"):
        return key
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":  # browsers ask for a name and a password: the key is the latter
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
