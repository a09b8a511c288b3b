"""One transaction as one self-contained HTML file."""

import argparse
import base64
import hashlib
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from markupsafe import Markup

from src import cli
from src.chain.names.book import AddressBook
from src.chain.transfers import Transfer
from src.datasets.store import find_transaction, open_store
from src.datasets.tokens import token_facts
from src.datasets.training_set import chain_id_of
from src.decision.tokens import TokenView
from src.files import write_file
from src.service.context import Service, store_outcome
from src.service.database.chain import store_tokens
from src.service.database.engine import Database
from src.service.decider import Decider
from src.service.embedded import prepare_database
from src.service.http.problems import Problem
from src.service.records import LoadedTransaction
from src.service.settings import load_common_settings, load_service_settings
from src.service.web.rendering import STATIC, environment, explorer_of
from src.service.web.transaction.view import checked_hash, read, view_transaction
from src.settings import Settings, on_chain, on_the_nodes_chain
from src.utils.logger import log_to_stderr

_ADDRESSES: Final = ("token_address", "from_address", "to_address")


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    log_to_stderr()
    common = load_common_settings()
    if options.node:
        common = replace(common, json_rpc_url=options.node)
    try:
        tx_hash = checked_hash(options.hash)
    except Problem as problem:
        raise cli.CommandError(problem.detail) from None
    out = options.out or cli.output_file(f"transaction-{tx_hash[:10]}.html")
    if options.store is not None:
        write_file(out, render_stored(options.store, tx_hash, common).encode())
        sys.stdout.write(f"{out}\n")
        return 0
    settings = load_service_settings()
    prepare_database(settings, common)
    service = Service.open(settings, common)
    try:
        content = render(service, tx_hash)
    except Problem as problem:
        raise cli.CommandError(problem.detail, exit_code=1) from None
    finally:
        service.close()
    write_file(out, content.encode())
    sys.stdout.write(f"{out}\n")
    return 0


def render(service: Service, tx_hash: str) -> str:
    """The report as HTML. Raises Problem if the transaction is unavailable."""
    view = read(service, tx_hash)["view"]
    return _html(view, service.names, service.chain_id, is_demo=service.is_demo)


def render_stored(folder: Path, tx_hash: str, common: Settings) -> str:
    """The report on a transaction of a history store as HTML; what a store lacks is unknown.

    Raises:
        TableError: the folder is no store, or cannot be read.
        CommandError: the transaction is not in it.
    """
    row = find_transaction(open_store(folder), tx_hash)
    if row is None:
        raise cli.CommandError(
            f"{folder}: has no transaction {tx_hash} with ERC-20 transfers", exit_code=1
        )
    common = _on_the_stores_chain(common, folder)
    transaction, chain_id = _loaded(row), common.chain_id
    with ExitStack() as opened:
        temporary = Path(opened.enter_context(TemporaryDirectory(prefix="report-")))
        database = Database(f"sqlite:///{temporary / 'report.db'}")
        opened.callback(database.close)
        database.migrate()
        decider = Decider(common)
        opened.callback(decider.close)
        outcome = decider.decide(transaction)
        store_outcome(database, transaction, outcome)
        moved = {transfer.token for transfer in transaction.transfers}
        named = {token.address for token in outcome.tokens if token.symbol}
        symbols = token_facts(folder, chain_id)
        with database.writing() as connection:
            store_tokens(
                connection,
                chain_id,
                [
                    TokenView(token, "", symbols[token].symbol, None, symbols[token].impersonates)
                    for token in (moved - named) & symbols.keys()
                ],
            )
        with database.reading() as connection:
            view = view_transaction(connection, decider.pipeline, tx_hash)
        return _html(view, decider.pipeline.names, chain_id, is_demo=False)


def _on_the_stores_chain(common: Settings, folder: Path) -> Settings:
    recorded = chain_id_of(folder)
    if recorded is None:
        return on_the_nodes_chain(common, is_needed=False)
    common = on_chain(common, recorded, str(folder))
    there = on_the_nodes_chain(replace(common, is_chain_set=False), is_needed=False).chain_id
    if there != recorded:
        raise cli.CommandError(
            f"{folder}: was recorded on chain {recorded}, but the node is on chain {there}"
        )
    return common


def _loaded(row: Mapping[str, Any]) -> LoadedTransaction:
    """A transaction of a store."""
    sender, to = (row[side] and f"0x{row[side].hex()}" for side in ("from_address", "to_address"))
    return LoadedTransaction(
        tx_hash=f"0x{row['tx_hash'].hex()}",
        block_number=row["block_number"],
        block_hash="",
        block_timestamp=row["block_timestamp"],
        tx_index=row["tx_index"],
        sender=sender,
        to=to,
        nonce=row["nonce"],
        gas_used=None,
        gas_price=None,
        transfers=tuple(map(_transfer, row["transfers"])),
    )


def _transfer(row: Mapping[str, Any]) -> Transfer:
    token, payer, payee = (f"0x{row[name].hex()}" for name in _ADDRESSES)
    return Transfer(token, payer, payee, int.from_bytes(row["amount"]), row["log_index"])


def _html(view: object, names: AddressBook, chain_id: int, *, is_demo: bool) -> str:
    # Exactly as parsed: the hash in the CSP is of the text between the tags.
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        environment(names)
        .get_template("report.html")
        .render(
            view=view,
            explorer=explorer_of(chain_id, is_demo=is_demo),
            style=Markup(style),  # noqa: S704  our own file
            style_hash=f"sha256-{digest}",
        )
    )
