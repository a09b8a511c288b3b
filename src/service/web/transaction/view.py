"""The contents of a transaction's page and report."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from src.chain.networks import described, network
from src.chain.transfers import Transfer
from src.decision.money import stored_prices
from src.decision.pipeline import Pipeline
from src.decision.tokens import TokenView, decimals_of
from src.detection.features.definitions import FEATURES
from src.detection.forest.model import Model
from src.detection.records import NATIVE, NATIVE_DECIMALS, Action
from src.service.api.common import HASH_PATTERN
from src.service.balances import (
    AccountChanges,
    Worth,
    account_changes,
    all_transfers,
    shown_label,
)
from src.service.context import Service
from src.service.database.alerts import Alert, AlertFilter, list_alerts
from src.service.database.cases import triage_history
from src.service.database.chain import find_tokens, find_transaction
from src.service.database.decisions import StoredDecision, find_features, newest_decision
from src.service.formatting import amount, exact_amount
from src.service.http.problems import Problem
from src.service.records import LoadedTransaction
from src.service.web.evaluation import FeatureInTraining, read_evaluation
from src.service.web.flow import Flow, lay_out
from src.service.web.queries import Company, company_of
from src.service.web.transaction.detectors import (
    MEANING,
    DetectorResults,
    contradiction,
    detector_results,
)
from src.service.web.transaction.facts import Facts, read_facts
from src.service.web.transaction.loot import Loot, next_movements

MAX_TRANSFERS = 200
MAX_ACCOUNTS = 200
_FIRST_ACCOUNTS = 10
_HASH: Final = re.compile(HASH_PATTERN.strip("^$"))


@dataclass(frozen=True, slots=True)
class Move:
    """A transfer for display. `token` is the address or `NATIVE`, `label` its display name."""

    payer: str
    payee: str
    amount: str
    exact: str
    token: str
    label: str


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One of the model's inputs, compared with usual values."""

    name: str
    meaning: str  # from the feature's definition
    value: float | None
    # Values from the evaluation, None if the model was not evaluated.
    usual: FeatureInTraining | None
    below: float | None  # share of the newest stored transactions with a lower value, or None
    weight: float | None  # its contribution to the score, or None if the explanation omits it


@dataclass(frozen=True, slots=True)
class TransactionView:
    """The contents of a transaction's page."""

    chain_id: int
    chain: str  # in words
    coin: str  # the symbol of what pays for gas
    links: dict[str, str]  # pages of explorers about the transaction, by name
    transaction: LoadedTransaction
    orphaned: bool
    decision: StoredDecision | None
    meaning: str
    detectors: DetectorResults | None  # their results; None without a decision
    contradiction: str | None  # see `detectors.contradiction`
    facts: Facts  # about its method, sender and the contract called
    alerts: list[Alert]
    # accounts, more_accounts: what each gained and lost, the first ones and the rest.
    accounts: list[AccountChanges]
    more_accounts: list[AccountChanges]
    accounts_left_out: int
    loot: Loot | None  # where the gain went next; None without alerts
    flow: Flow
    moves: list[Move]
    moves_left_out: int
    features: list[FeatureRow]
    weights: list[dict[str, Any]]
    company: Company | None
    native_is_known: bool  # whether the chain has logged all transfers of the native currency


def checked_hash(text: str) -> str:
    """A transaction hash in lower case. Raises Problem 422 if it is invalid."""
    if not _HASH.fullmatch(text.strip()):
        raise Problem(422, "A transaction hash must be 0x and 64 hex digits.")
    return text.strip().lower()


def read(service: Service, tx_hash: str) -> dict[str, Any]:
    """Values of `transaction.html`; decides on the transaction unless a decision is stored.

    Raises:
        Problem: 404 for an unknown transaction, 502 to 504 when the node fails.
    """
    problem = None
    try:
        service.decision(tx_hash)
    except Problem as failed:  # stored values can still be shown
        problem = failed
    with service.database.reading() as connection:
        view = view_transaction(connection, service.decider.pipeline, tx_hash)
        history = triage_history(connection, service.chain_id, tx_hash)
    if view is None:
        raise problem or Problem(404, f"No block of the chain contains transaction {tx_hash}.")
    return {"view": view, "history": history, "trouble": problem.detail if problem else None}


def view_transaction(
    connection: Connection, pipeline: Pipeline, tx_hash: str
) -> TransactionView | None:
    """Read the view from the database; None if the transaction is not stored.

    Args:
        connection: for reading.
        pipeline: in use; it knows the chain, its tokens, the model and the detectors.
        tx_hash: the transaction's.
    """
    chain_id, model = pipeline.chain_id, pipeline.model
    found = find_transaction(connection, chain_id, tx_hash)
    if found is None:
        return None
    transaction, orphaned = found
    decision = newest_decision(connection, chain_id, tx_hash, pipeline.fingerprint)
    chain = network(chain_id)
    symbol = chain.native_symbol
    stored = find_tokens(connection, chain_id, {one.token for one in transaction.transfers})
    tokens = {
        address: replace(token, well_known=pipeline.well_known.get(address) is not None)
        for address, token in stored.items()
    }
    tokens[NATIVE] = TokenView(NATIVE, symbol, symbol, NATIVE_DECIMALS, well_known=True)
    moved = all_transfers(transaction)
    own = AlertFilter(tx_hash=tx_hash, chain_id=chain_id)
    alerts, _ = list_alerts(connection, own, sort="severity")
    named, company = None, None
    if decision is not None:
        version = decision.model_version
        named = find_features(connection, chain_id, tx_hash, version)
        company = company_of(connection, chain_id, tx_hash, decision.decider, version, model.inputs)
    weights = list(decision.explanation or []) if decision else []
    money = decision.money if decision is not None else None
    worth = Worth(
        prices=stored_prices(money),
        values=pipeline.profile.values,
        has_list=len(pipeline.well_known) > 0,
        wrapped_native=chain.wrapped_native,
    )
    accounts = account_changes(transaction, tokens, worth, (money or {}).get("side", ()))
    first, rest = _first(accounts)
    return TransactionView(
        chain_id=chain_id,
        chain=described(chain_id),
        coin=symbol,
        links=chain.transaction_links(tx_hash),
        transaction=transaction,
        orphaned=orphaned,
        decision=decision,
        meaning=MEANING[Action(decision.action)] if decision else "",
        detectors=detector_results(decision, pipeline) if decision else None,
        contradiction=contradiction(decision, alerts) if decision else None,
        facts=read_facts(connection, chain_id, transaction, decision, named),
        alerts=alerts,
        accounts=first,
        more_accounts=rest[:MAX_ACCOUNTS],
        accounts_left_out=max(0, len(rest) - MAX_ACCOUNTS),
        loot=next_movements(connection, chain_id, transaction, accounts, tokens)
        if alerts
        else None,
        flow=lay_out(moved, tokens, sender=transaction.sender, to=transaction.to),
        moves=[_move(one, tokens) for one in moved[:MAX_TRANSFERS]],
        moves_left_out=max(0, len(moved) - MAX_TRANSFERS),
        features=_features(model, named, weights, company),
        weights=weights,
        company=company,
        native_is_known=bool(transaction.native),
    )


def _first(
    accounts: list[AccountChanges],
) -> tuple[list[AccountChanges], list[AccountChanges]]:
    """The first accounts, the sender and the contract called among them, and the rest."""
    first = accounts[:_FIRST_ACCOUNTS]
    rest = accounts[_FIRST_ACCOUNTS:]
    first += [one for one in rest if {"sender", "called"} & set(one.roles)]
    return first, [one for one in rest if one not in first]


def _move(one: Transfer, tokens: Mapping[str, TokenView]) -> Move:
    decimals = decimals_of(one.token, tokens)
    return Move(
        payer=one.sender,
        payee=one.recipient,
        amount=amount(one.amount, decimals),
        exact=exact_amount(one.amount, decimals),
        token=one.token,
        label=shown_label(one.token, tokens),
    )


def _features(
    model: Model,
    named: Mapping[str, Any] | None,
    weights: Sequence[Mapping[str, Any]],
    company: Company | None,
) -> list[FeatureRow]:
    """The model's inputs, largest weight first."""
    if named is None:
        return []
    evaluation = read_evaluation(model.manifest.sha256)
    usual = evaluation.features if evaluation else {}
    by_name = {one["feature"]: one["weight"] for one in weights}
    order = [*by_name, *[name for name in model.inputs if name not in by_name]]
    rows = []
    for name in order:
        value = named.get(name)
        rows.append(
            FeatureRow(
                name=name,
                meaning=FEATURES.get(name, ""),
                value=float(value) if isinstance(value, int | float) else None,
                usual=usual.get(name),
                below=company.below.get(name) if company else None,
                weight=by_name.get(name),
            )
        )
    return rows
