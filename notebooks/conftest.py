"""Gives daily_model_stats.ipynb a local server with the Forta API's schema when it is tested."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date

import pytest

from tests.support.forta_graphql import BOT, DAY, KEY, FortaServer, invent_alerts, serving

_ALERTS = 10_000
_FAILING_REQUEST = 4


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Serve while the notebook runs; its kernel inherits the environment."""
    if item.path.name != "daily_model_stats.ipynb":
        return (yield)
    server = FortaServer(invent_alerts(_ALERTS))
    server.failures[_FAILING_REQUEST] = (502, "<html>bad gateway</html>")
    before = dict(os.environ)
    with ExitStack() as stack:
        url = stack.enter_context(serving(server.answer))
        stack.callback(os.environ.update, before)
        os.environ.update(_environment(url, DAY))
        outcome = yield
        for name in _environment(url, DAY).keys() - before.keys():
            del os.environ[name]
        return outcome


def _environment(url: str, day: date) -> dict[str, str]:
    return {
        "FORTA_API_URL": url,
        "FORTA_API_KEY": KEY,
        "FORTA_BOT_ID": BOT,
        "STATS_DATE": day.isoformat(),
    }
