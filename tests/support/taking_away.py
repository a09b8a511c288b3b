"""A node in front of a node that lacks some methods, or answers some of them otherwise."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from werkzeug import Request, Response

from tests.support.fake_chain import serve
from tests.support.waiting import PATIENCE

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def missing(asked: dict[str, Any]) -> dict[str, Any]:
    """The error of a node that does not have the method."""
    return {"error": {"code": -32601, "message": f"the method {asked['method']} does not exist"}}


@contextmanager
def node_without(
    url: str,
    *methods: str,
    asked: list[str] | None = None,
    refused: list[int] | None = None,
    **others: Answer,
) -> Iterator[str]:
    """The URL of a node that passes everything on but these methods.

    Args:
        url: of the real node.
        methods: that it does not have.
        asked: is given each method that was asked.
        refused: is given the size of each batch, none of which it answers; None if it does.
        others: what it answers to methods, instead of the node.
    """
    instead: Mapping[str, Answer] = {**dict.fromkeys(methods, missing), **others}

    def reply(call: dict[str, Any]) -> Any:
        if asked is not None:
            asked.append(call["method"])
        if call["method"] in instead:
            return {"jsonrpc": "2.0", "id": call["id"], **instead[call["method"]](call)}
        return requests.post(url, json=call, timeout=PATIENCE).json()

    def answer(request: Request) -> Response:
        body = request.get_json()
        if isinstance(body, list) and refused is not None:
            refused.append(len(body))
            return Response("batches are not supported", 400)
        found = [reply(one) for one in body] if isinstance(body, list) else reply(body)
        return Response(json.dumps(found))

    with serve(answer) as served:
        yield served
