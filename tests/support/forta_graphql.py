"""A local GraphQL server with the Forta API's schema: our query is validated against it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from graphql import build_schema, graphql_sync

BOT = "0x" + "b0" * 32
KEY = "planted-api-key"
DAY = date(2026, 1, 31)

# The part of https://docs.forta.network's schema that alerts are read by.
SCHEMA = build_schema("""
scalar JSON
type Query { alerts(input: AlertsInput): AlertsResponse }
input AlertsInput {
  first: Int
  after: AlertEndCursorInput
  bots: [String]
  chainId: NonNegativeInt
  blockSortDirection: Sort
  blockDateRange: DateRange
  severities: [String]
}
scalar NonNegativeInt
scalar Date
enum Sort { asc desc }
input DateRange { startDate: Date!, endDate: Date! }
input AlertEndCursorInput { blockNumber: NonNegativeInt!, alertId: String! }
type AlertsResponse { alerts: [Alert], pageInfo: PageInfo }
type PageInfo { hasNextPage: Boolean!, endCursor: AlertEndCursor }
type AlertEndCursor { blockNumber: NonNegativeInt!, alertId: String! }
type Alert {
  hash: String!
  alertId: String
  severity: String
  createdAt: String
  metadata: JSON
  source: Source
}
type Source { transactionHash: String, block: Block }
type Block { number: NonNegativeInt, timestamp: String, chainId: NonNegativeInt }
""")


def invent_alerts(many: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """One day's alerts in block order: 2% anomalous, 1% invalid."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, size=many, p=[0.97, 0.02, 0.01])
    alerts = []
    for number, kind in enumerate(kinds.tolist()):
        score = float(rng.uniform(0.67, 0.9) if kind == 1 else rng.beta(8, 13))
        score = min(score, 0.66) if kind == 0 else score
        seconds = number * 86_400 // many
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        metadata = {"model_version": "1795219200"}
        if kind != 2:
            metadata["anomaly_score"] = f"{score:.3f}"
        alerts.append(
            {
                "hash": f"0x{number + 1:064x}",
                "alertId": f"{('NORMAL', 'ANOMALOUS', 'INVALID')[kind]}-TOKEN-TRANSFERS-TX",
                "severity": ("INFO", "CRITICAL", "LOW")[kind],
                "createdAt": f"{DAY}T{clock}.000000Z",
                "metadata": metadata,
                "source": {
                    "transactionHash": f"0x{number + 1:064x}",
                    "block": {
                        "number": 20_000_000 + seconds // 12,
                        "timestamp": f"{DAY}T{clock}Z",
                        "chainId": 1,
                    },
                },
            }
        )
    return alerts


Failure = tuple[int, str]
"""Status and body of an answer that is no page."""


class FortaServer:
    """Pages through `alerts`; `failures` are answered first, one a request from number on."""

    def __init__(self, alerts: list[dict[str, Any]]) -> None:
        self.alerts = alerts
        self.failures: dict[int, Failure] = {}
        self.requests = 0

    def answer(self, authorization: str | None, body: bytes) -> tuple[int, str]:
        self.requests += 1
        failure = self.failures.pop(self.requests, None)
        if failure is not None:
            return failure
        if authorization != f"Bearer {KEY}":
            error = {"message": "invalid key", "extensions": {"code": "UNAUTHENTICATED"}}
            return 200, json.dumps({"errors": [error]})
        asked = json.loads(body)
        result = graphql_sync(
            SCHEMA, asked["query"], root_value={"alerts": self._page},
            variable_values=asked["variables"],
        )  # fmt: skip
        return 200, json.dumps(result.formatted)

    def _page(self, _info: Any, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        day = DAY.isoformat()
        asked = (input["bots"], input["blockDateRange"], input["chainId"])
        alerts = self.alerts
        if asked != ([BOT], {"startDate": day, "endDate": day}, 1):
            alerts = []
        after = input.get("after")
        start = 0
        if after is not None:  # the alert's hash is the cursor's alertId
            start = 1 + next(
                row for row, alert in enumerate(alerts) if alert["hash"] == after["alertId"]
            )
        page = alerts[start : start + input["first"]]
        more = start + len(page) < len(alerts)
        cursor = None
        if page:
            last = page[-1]
            number = last["source"]["block"]["number"]
            cursor = {"blockNumber": number, "alertId": last["hash"]}
        return {"alerts": page, "pageInfo": {"hasNextPage": more, "endCursor": cursor}}


@contextmanager
def serving(answer: Callable[[str | None, bytes], tuple[int, str]]) -> Iterator[str]:
    """Serve and yield the endpoint's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, text = answer(self.headers.get("Authorization"), body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/graphql"
    finally:
        server.shutdown()
        server.server_close()
