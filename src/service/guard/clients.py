"""Which clients may use the guard: by key, host and origin."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from src.service.http.problems import Problem
from src.service.http.security import Gatekeeper, is_cross_site
from src.service.settings import ServiceSettings


class Clients:
    """Admits clients.

    Args:
        settings: whose `api_keys` are those of the guard's clients.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._gatekeeper = Gatekeeper(settings)
        self._is_keyed = bool(settings.api_keys)
        self._origins = frozenset(settings.cors_origins)

    def name(self, scope: MutableMapping[str, Any], headers: Mapping[str, str]) -> str:
        """The client's name: that of its key, else its address.

        Wallets know only a URL, so a key may also be the path.

        Raises:
            Problem: a wrong key, an unknown host, or a page of another site.
        """
        if not self._gatekeeper.knows_host(headers.get("host", "")):
            raise Problem(403, "unknown host: add it to SERVICE_ALLOWED_HOSTS")
        if self._is_foreign_page(headers):
            raise Problem(403, "cross-site request: add the origin to SERVICE_CORS_ORIGINS")
        key = scope["path"].strip("/")
        if key and "x-api-key" not in headers:
            headers = {**headers, "x-api-key": key}
        name = self._gatekeeper.client(headers)
        if name is None:
            raise Problem(401, "send a key: as X-API-Key, as a bearer token, or in the path")
        if self._is_keyed:
            return name
        return scope["client"][0] if scope.get("client") else name

    def allowed_origin(self, headers: Mapping[str, str]) -> str | None:
        """The request's origin if its pages may read the answer."""
        origin = headers.get("origin")
        return origin if origin in self._origins else None

    def _is_foreign_page(self, headers: Mapping[str, str]) -> bool:
        scheme = headers.get("origin", "").partition("://")[0]
        if scheme.endswith("-extension"):  # a wallet, which is no page of a site
            return False
        return is_cross_site(headers, self._origins)
