"""The alerts that a bot published, from the Forta API (GraphQL): one day, page by page."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

from src.chain.clients.http import HttpClient
from src.chain.errors import MalformedAnswer, RateLimited, RequestRefused, SourceUnavailable

DEFAULT_URL = "https://api.forta.network/graphql"
PAGE_SIZE = 1000
ATTEMPTS = 6

_SOURCE = "forta api"
_TIMEOUT_SECONDS = 60.0
_MAX_BYTES = 128 * 1024 * 1024
_MAX_PAGES = 10_000
_MAX_BACKOFF_SECONDS = 30.0
# The request itself is wrong: a retry gives the same response.
_FINAL_CODES = frozenset(
    {"BAD_USER_INPUT", "FORBIDDEN", "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED",
     "UNAUTHENTICATED"}
)  # fmt: skip

QUERY = """\
query alerts($input: AlertsInput) {
  alerts(input: $input) {
    pageInfo { hasNextPage endCursor { blockNumber alertId } }
    alerts {
      hash
      alertId
      severity
      createdAt
      metadata
      source { transactionHash block { number timestamp chainId } }
    }
  }
}
"""

Alert = dict[str, Any]

logger = logging.getLogger(__name__)


class FortaApi:
    """Reads alerts; retries failing pages with exponential backoff.

    The key is sent as a bearer token; None for an endpoint without keys.
    """

    def __init__(
        self,
        key: str | None,
        *,
        url: str = DEFAULT_URL,
        page_size: int = PAGE_SIZE,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        secrets = (key,) if key else ()
        self._http = HttpClient(
            _SOURCE, url, timeout=_TIMEOUT_SECONDS, max_bytes=_MAX_BYTES, secrets=secrets
        )
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._page_size = page_size
        self._sleep = sleep

    def alerts_of_day(self, bot: str, day: date, *, chain_id: int = 1) -> Iterator[Alert]:
        """Every alert of a bot about blocks of one UTC day, oldest first, each once.

        Raises:
            RequestRefused: the API rejects the key, the bot, or the query.
            SourceUnavailable, RateLimited: it failed `ATTEMPTS` times in a row.
            MalformedAnswer: the response violates the schema, or a cursor is invalid.
        """
        wanted: dict[str, Any] = {
            "first": self._page_size,
            "bots": [bot.lower()],
            "chainId": chain_id,
            "blockSortDirection": "asc",
            "blockDateRange": {"startDate": day.isoformat(), "endDate": day.isoformat()},
        }
        seen: set[tuple[int, str]] = set()
        given: set[Any] = set()
        for _ in range(_MAX_PAGES):
            alerts, cursor = self._page(wanted)
            for alert in alerts:
                # Of pages that overlap; one without its hash is not known again.
                alert_hash = alert.get("hash")
                if alert_hash is None or alert_hash not in given:
                    given.add(alert_hash)
                    yield alert
            if cursor is None:
                return
            position = (cursor["blockNumber"], cursor["alertId"])
            if position in seen:
                raise MalformedAnswer(_SOURCE, "a cursor points back to an earlier page")
            seen.add(position)
            wanted = {**wanted, "after": cursor}
        raise MalformedAnswer(_SOURCE, f"more than {_MAX_PAGES} pages")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _page(self, wanted: dict[str, Any]) -> tuple[list[Alert], dict[str, Any] | None]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _read(self._data(wanted))
            except (SourceUnavailable, RateLimited, MalformedAnswer) as failure:
                if attempt == ATTEMPTS:
                    raise
                pause = min(_MAX_BACKOFF_SECONDS, 2.0 ** (attempt - 1))
                wish = min(_MAX_BACKOFF_SECONDS, failure.retry_after or 0.0)
                logger.warning("%s; attempt %d of %d", failure, attempt, ATTEMPTS)
                # With jitter, so that clients that were rejected together do not retry together.
                self._sleep(max(wish, pause * random.uniform(0.5, 1.0)))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    def _data(self, wanted: dict[str, Any]) -> Any:
        body = {"query": QUERY, "variables": {"input": wanted}}
        answer = self._http.post(body, headers=self._headers)
        if not isinstance(answer, dict):
            raise MalformedAnswer(_SOURCE, "response is not an object")
        errors = answer.get("errors")
        if errors:
            raise self._failure(errors)
        return answer.get("data")

    def _failure(self, errors: Any) -> RequestRefused | SourceUnavailable:
        first = errors[0] if isinstance(errors, list) else errors
        first = first if isinstance(first, dict) else {"message": first}
        extensions = first.get("extensions")
        code = extensions.get("code") if isinstance(extensions, dict) else None
        words = self._http.quote(first.get("message"))
        if isinstance(code, str) and code in _FINAL_CODES:
            return RequestRefused(_SOURCE, f"{code}: {words}")
        return SourceUnavailable(_SOURCE, f"GraphQL error: {words}")


def _read(data: Any) -> tuple[list[Alert], dict[str, Any] | None]:
    """A page's alerts and the cursor of the next page."""
    try:
        connection = data["alerts"]
        alerts = connection["alerts"]
        page = connection["pageInfo"]
        cursor = None
        if page["hasNextPage"]:
            end = page["endCursor"]
            cursor = {"blockNumber": int(end["blockNumber"]), "alertId": str(end["alertId"])}
        if not isinstance(alerts, list) or not all(isinstance(alert, dict) for alert in alerts):
            raise TypeError("alerts")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedAnswer(_SOURCE, f"not a page of alerts ({type(error).__name__})") from None
    return alerts, cursor
