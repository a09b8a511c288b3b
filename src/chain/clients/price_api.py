"""Prices from a keyless API in the form of DefiLlama's, with a confidence for each."""

from collections.abc import Collection, Mapping
from urllib.parse import quote

from src.chain.clients.http import HttpClient
from src.chain.errors import Failure, MalformedAnswer
from src.chain.facts import Price, price
from src.chain.quantities import as_int

SOURCE = "price API"
MAX_TOKENS = 50

_MAX_BYTES = 256 * 1024
_MIN_CONFIDENCE = 0.9
_TOLERANCE_SECONDS = 3_600


class PriceApiClient:
    """Prices of tokens at a time.

    `chain` is how the API calls the chain; `timeout` is in seconds per request.
    """

    def __init__(self, url: str, chain: str, *, timeout: float) -> None:
        self._chain = chain
        self._http = HttpClient(SOURCE, url, timeout=timeout, max_bytes=_MAX_BYTES)

    def prices(
        self, tokens: Collection[str], timestamp: int, *, is_now: bool
    ) -> Mapping[str, Price | Failure]:
        """The price of each token, or why there is none.

        Takes at most `MAX_TOKENS` addresses; `timestamp` is in Unix seconds.

        Raises:
            SourceError: no usable answer about any.
        """
        coins = quote(",".join(f"{self._chain}:{token}" for token in tokens), safe=",:")
        when = "current" if is_now else f"historical/{timestamp}"
        answer = self._http.get(f"/prices/{when}/{coins}", {})
        listed = answer.get("coins") if isinstance(answer, dict) else None
        if not isinstance(listed, dict):
            raise MalformedAnswer(SOURCE, "response without coins")
        given = {str(name).lower(): entry for name, entry in listed.items()}
        found: dict[str, Price | Failure] = {}
        for token in tokens:
            try:
                found[token] = _price(given.get(f"{self._chain}:{token}"), timestamp)
            except MalformedAnswer as error:
                found[token] = Failure.of(error)
        return found

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()


def _price(entry: object, timestamp: int) -> Price:
    if not isinstance(entry, dict):
        raise MalformedAnswer(SOURCE, "no price of this token")
    confidence, when = entry.get("confidence"), as_int(entry.get("timestamp"))
    if not isinstance(confidence, int | float) or not _MIN_CONFIDENCE <= confidence <= 1:
        raise MalformedAnswer(SOURCE, "too little confidence")
    if when is None or abs(when - timestamp) > _TOLERANCE_SECONDS:
        raise MalformedAnswer(SOURCE, "a price of another time")
    return price(SOURCE, entry.get("price"), entry.get("decimals"))
