"""First transactions from Etherscan's API V2 or a compatible explorer."""

import re
from typing import Any

from src.chain.clients import rpc_errors
from src.chain.clients.http import HttpClient
from src.chain.clients.urls import explorer_api
from src.chain.errors import MalformedAnswer, NotFound
from src.chain.facts import FirstTransaction, first_transaction

SOURCE = "etherscan"
_MAX_BYTES = 256 * 1024
_NO_TRANSACTIONS = re.compile(
    r"((notok|error)\W*|there (are|is) |(this |the )?(address|account|wallet) has )?"
    r"((no|0|zero) ((normal|matching) )?(transaction|record|txs?\b|txn|data|result|entr)"
    r"|(transactions?|address|account|records?) (was |were )?not found|nothing found|empty)"
)


class EtherscanClient:
    """`module=account&action=txlist` of Etherscan V2; Blockscout instances answer it without a key.

    `url` may have any form that `explorer_api` understands; explorers without keys take None or "".
    `timeout` is in seconds per request.
    """

    def __init__(self, url: str, api_key: str | None, chain_id: int, *, timeout: float) -> None:
        self._api_key = api_key
        self._chain_id = chain_id
        self._http = HttpClient(
            SOURCE,
            explorer_api(url),
            timeout=timeout,
            max_bytes=_MAX_BYTES,
            secrets=(api_key or "",),
        )

    def first_transaction(self, address: str) -> FirstTransaction:
        """The first transaction from or to `address`.

        Raises:
            NotFound: the address has none yet.
            SourceError: no usable response.
        """
        params = {
            "chainid": str(self._chain_id),
            "module": "account",
            "action": "txlist",
            "address": address,
            "startblock": "0",
            "endblock": "99999999999",
            "page": "1",
            "offset": "1",
            "sort": "asc",
        }
        if self._api_key:
            params["apikey"] = self._api_key
        return self._read(self._http.get(params=params), address)

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def _read(self, answer: Any, address: str) -> FirstTransaction:
        if not isinstance(answer, dict):
            raise MalformedAnswer(SOURCE, "response is not an object")
        result = answer.get("result")
        if str(answer.get("status")) != "1":
            self._raise_refusal(answer.get("message"), result)
        is_list = isinstance(result, list) and all(isinstance(one, dict) for one in result)
        if not is_list or not result:
            raise MalformedAnswer(SOURCE, "response without a transaction")
        if not all(_concerns(transaction, address) for transaction in result):
            raise MalformedAnswer(SOURCE, "response for another address")
        # Some ignore the size of a page or its order.
        found = (first_transaction(SOURCE, one.get("timeStamp")) for one in result)
        return min(found, key=lambda first: first.timestamp)

    def _raise_refusal(self, message: object, result: object) -> None:
        words = self._http.quote(message)
        said = self._http.quote(result)  # some explorers state there what others do in the message
        if _NO_TRANSACTIONS.match((said or words).lower()) and (said or not result):
            raise NotFound("the address has no transaction")
        if message is None:
            raise MalformedAnswer(SOURCE, "response without a status")
        if said:
            words = f"{words}: {said}"
        raise rpc_errors.refusal(words)(SOURCE, words)


def _concerns(transaction: dict[str, Any], address: str) -> bool:
    parties = [transaction.get(field) for field in ("from", "to", "contractAddress")]
    named = [party.lower() for party in parties if isinstance(party, str) and party]
    return not named or address.lower() in named
