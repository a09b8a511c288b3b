"""Token metadata from Ethplorer."""

from typing import Any

from src.chain.clients import rpc_errors
from src.chain.clients.http import HttpClient
from src.chain.errors import MalformedAnswer
from src.chain.facts import Price, TokenInfo, price, token_info
from src.chain.quantities import as_int

SOURCE = "ethplorer"

_MAX_BYTES = 256 * 1024

# Below these a price is easily made up, USD.
_MIN_MARKET_CAP = 1_000_000
_MIN_VOLUME = 100_000
_MAX_PRICE_AGE_SECONDS = 6 * 3_600


class EthplorerClient:
    """`getTokenInfo` of Ethplorer (Ethereum mainnet).

    The key is a personal one, or "freekey"; `timeout` is in seconds per request.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float) -> None:
        self._api_key = api_key
        self._http = HttpClient(
            SOURCE, url, timeout=timeout, max_bytes=_MAX_BYTES, secrets=(api_key,)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def token_info(self, address: str) -> TokenInfo:
        """The metadata of the token at `address`. Raises `SourceError` subclasses.

        Ethplorer returns empty fields for unknown contracts, so a response without a symbol or
        without decimals counts as malformed: the contract itself may have them.
        """
        answer = self._token(address)
        info = token_info(SOURCE, answer.get("name"), answer.get("symbol"), answer.get("decimals"))
        if not info.symbol or info.decimals is None:
            raise MalformedAnswer(SOURCE, "symbol or decimals missing")
        return info

    def price(self, address: str, now: int) -> Price:
        """The present price of the token at `address`.

        Args:
            address: the token.
            now: Unix seconds.

        Raises:
            SourceError: no answer, no price, an old one, or one of a market too small to trust.
        """
        answer = self._token(address)
        given = answer.get("price")
        if not isinstance(given, dict) or given.get("currency") != "USD":
            raise MalformedAnswer(SOURCE, "no price of this token")
        for name, least in (("marketCapUsd", _MIN_MARKET_CAP), ("volume24h", _MIN_VOLUME)):
            size = given.get(name)
            if isinstance(size, bool) or not isinstance(size, int | float) or not size >= least:
                raise MalformedAnswer(SOURCE, f"{name} too small to trust the price")
        when = as_int(given.get("ts"))
        if when is None or abs(now - when) > _MAX_PRICE_AGE_SECONDS:
            raise MalformedAnswer(SOURCE, "a price of another time")
        return price(SOURCE, given.get("rate"), answer.get("decimals"))

    def _token(self, address: str) -> dict[str, Any]:
        answer = self._http.get(f"/getTokenInfo/{address}", {"apiKey": self._api_key})
        if not isinstance(answer, dict):
            raise MalformedAnswer(SOURCE, "response is not an object")
        if (error := answer.get("error")) is not None:
            words = self._http.quote(error.get("message") if isinstance(error, dict) else error)
            raise rpc_errors.refusal(words)(SOURCE, words)
        answered = answer.get("address")
        if isinstance(answered, str) and answered.lower() != address.lower():
            raise MalformedAnswer(SOURCE, "response for another token")
        return answer

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()
