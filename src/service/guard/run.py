"""Puts the guard together, and its life from start to signal."""

import argparse
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from src import cli
from src.chain.errors import SourceError
from src.chain.names.book import open_address_book
from src.chain.simulation.call import UnsignedCall
from src.detection.records import ZERO_ADDRESS
from src.monitoring.periodic import Periodic
from src.service.context import fraud_model_path, open_decider, open_node, open_screener
from src.service.database.engine import Database
from src.service.guard.app import GuardApp
from src.service.guard.clients import Clients
from src.service.guard.decisions import Decisions
from src.service.guard.follow import LOOK_SECONDS, Follower
from src.service.guard.gate import Gate, Rules
from src.service.guard.methods import AllowList
from src.service.guard.pages import Shown, pages
from src.service.guard.proxy import Proxy
from src.service.guard.upstream import Upstream
from src.service.http.middleware import RequestChecks
from src.service.http.security import ClientLimits
from src.service.http.server import run_uvicorn, shown_host
from src.service.model_refresh import FraudModel
from src.service.screening.notices import Notices
from src.service.screening.screener import DEFAULT_SECONDS
from src.service.settings import (
    ServiceSettings,
    database_url,
    load_common_settings,
    load_service_settings,
)
from src.service.watch.notify import channels_of
from src.settings import Settings, on_the_nodes_chain
from src.utils.logger import log_to_stderr
from src.variables import SettingsError

_CONNECTIONS: Final = 10_000
# The default is a scan node's limit; the guard has a node of its own.
_REQUESTS_PER_SECOND: Final = 2_000


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    log_to_stderr()
    if options.upstream is not None and not os.environ.get("JSON_RPC_URL", "").strip():
        os.environ["JSON_RPC_URL"] = options.upstream
    try:
        settings = replace(load_service_settings(), host=options.host, port=options.port)
        common = load_common_settings()
        if common.json_rpc_url is None:
            raise cli.CommandError("name the node: --upstream URL, or JSON_RPC_URL")
        common = on_the_nodes_chain(common)
        assert common.json_rpc_url is not None  # noqa: S101
        named: str | None = options.upstream
        upstream_url = common.json_rpc_url if named is None else named
        if upstream_url != common.json_rpc_url:  # what is screened on one must be for the other
            on_the_nodes_chain(replace(common, json_rpc_url=upstream_url, is_chain_set=True))
    except SourceError as error:
        raise cli.CommandError(cli.described(error), exit_code=1) from error
    for variable, keys in (
        ("GUARD_API_KEYS", settings.guard_api_keys),
        ("SERVICE_API_KEYS", settings.api_keys),
    ):
        if settings.is_public and not keys:
            raise SettingsError(
                variable, f"set while the guard listens beyond loopback (--host {settings.host})"
            )
    rules = Rules(
        enforce=options.mode == "enforce",
        refuse_unknown=options.on_unknown == "refuse",
        hold_review=options.hold_review,
        seconds=options.limit_seconds,
        allowed=AllowList(options.allow),
    )
    upstream = Upstream(upstream_url, options.upstream_ws)
    with ExitStack() as opening:
        app = _open(opening, settings, common, rules, upstream)
        _announce(settings, rules)
        return run_uvicorn(
            app,
            settings,
            connections=_CONNECTIONS,
            ws="websockets-sansio",
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,
        )


def _open(
    opening: ExitStack, settings: ServiceSettings, common: Settings, rules: Rules, node: Upstream
) -> GuardApp:
    """The application; everything that it uses is open until `opening` closes."""
    if "JSON_RPC_REQUESTS_PER_SECOND" not in os.environ:
        common = replace(common, json_rpc_requests_per_second=_REQUESTS_PER_SECOND)
    channels = channels_of(settings)
    database = Database(database_url(settings, common))
    opening.callback(database.close)
    database.migrate()
    fraud = FraudModel(fraud_model_path(settings), common.model_public_key)
    decider = open_decider(opening, settings, common, fraud)
    reader = open_node(opening, settings, common)
    # Not less than the default: the first simulation has to find out how the node simulates.
    seconds = max(DEFAULT_SECONDS, rules.seconds)
    screener = open_screener(opening, common, decider, seconds)
    # Of nobody: what is asked only once takes time.
    screener.screen([UnsignedCall(ZERO_ADDRESS, ZERO_ADDRESS)])
    decisions = Decisions(database, common.chain_id)
    decisions.writing.start()
    opening.callback(decisions.close)
    follower = Follower(decisions, reader, decider)
    opening.enter_context(Periodic("follow", LOOK_SECONDS, follower.look))
    notices = Notices(channels, settings.notify_from, settings.public_url)
    opening.enter_context(notices)

    gate = Gate(screener, rules, decisions, notices.add)
    opening.callback(gate.close)

    names = open_address_book(common.chain_id, common.address_book)
    opening.callback(names.close)
    shown = Shown(decisions, rules, common.chain_id, node, names)
    return GuardApp(
        RequestChecks(pages(shown), settings),
        Proxy(gate, ClientLimits(settings.requests_per_second), node),
        node,
        Clients(replace(settings, api_keys=settings.guard_api_keys)),
        settings.max_body_bytes,
    )


def _announce(settings: ServiceSettings, rules: Rules) -> None:
    address = f"http://{shown_host(settings)}:{settings.port}"
    mode = "Enforcing" if rules.enforce else "Observing"
    sys.stderr.write(
        f"{mode} at {address} (JSON-RPC over HTTP and WebSocket)."
        f" Decisions: {address}/ui/screenings\n"
    )
