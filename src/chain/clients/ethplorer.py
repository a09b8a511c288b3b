"""Token metadata from Ethplorer."""

from src.chain.clients import rpc_errors
from src.chain.clients.http import HttpClient
from src.chain.errors import MalformedAnswer
from src.chain.facts import TokenInfo, token_info

SOURCE = "ethplorer"

_MAX_BYTES = 256 * 1024


class EthplorerClient:
    """`getTokenInfo` of Ethplorer (Ethereum mainnet).

    The key is a personal one, or "freekey"; `timeout` is in seconds per request.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float) -> None:
        self._api_key = api_key
        self._http = HttpClient(
            SOURCE, url, timeout=timeout, max_bytes=_MAX_BYTES, secrets=(api_key,)
        )

    def token_info(self, address: str) -> TokenInfo:
        """The metadata of the token at `address`. Raises `SourceError` subclasses.

        Ethplorer returns empty fields for unknown contracts, so a response without a symbol or
        without decimals counts as malformed: the contract itself may have them.
        """
        answer = self._http.get(f"/getTokenInfo/{address}", {"apiKey": self._api_key})
        if not isinstance(answer, dict):
            raise MalformedAnswer(SOURCE, "response is not an object")
        if (error := answer.get("error")) is not None:
            words = self._http.quote(error.get("message") if isinstance(error, dict) else error)
            raise rpc_errors.refusal(words)(SOURCE, words)
        answered = answer.get("address")
        if isinstance(answered, str) and answered.lower() != address.lower():
            raise MalformedAnswer(SOURCE, "response for another token")
        info = token_info(SOURCE, answer.get("name"), answer.get("symbol"), answer.get("decimals"))
        if not info.symbol or info.decimals is None:
            raise MalformedAnswer(SOURCE, "symbol or decimals missing")
        return info

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()
