"""The contents of a transaction's page and report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from src.chain.networks import described, network
from src.chain.transfers import Transfer
from src.decision.tokens import TokenView, decimals_of
from src.detection.features.definitions import FEATURES
from src.detection.forest.model import Model
from src.detection.records import NATIVE, NATIVE_DECIMALS
from src.service.balances import Net, all_transfers, net_changes, shown_label
from src.service.database.alerts import Alert, AlertFilter, list_alerts
from src.service.database.chain import find_tokens, find_transaction
from src.service.database.decisions import StoredDecision, find_features, newest_decision
from src.service.formatting import amount, exact_amount, signed, words
from src.service.records import LoadedTransaction
from src.service.web.charts import Chart, signed_bars
from src.service.web.evaluation import FeatureInTraining, read_evaluation
from src.service.web.flow import Flow, lay_out
from src.service.web.queries import Company, company_of

MAX_TRANSFERS = 200
MAX_NETS = 200


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
class Worth:
    """What one net change was worth. `usd` is None if unknown, `source` what priced it."""

    who: str
    amount: str
    exact: str
    token: str
    label: str
    usd: float | None
    source: str


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One of the model's inputs, compared with usual values.

    Attributes:
        meaning: from the feature's definition.
        usual: values from the evaluation, None if the model was not evaluated.
        below: share of the newest stored transactions with a lower value, or None.
        weight: its contribution to the score, or None if the explanation omits it.
    """

    name: str
    meaning: str
    value: float | None
    usual: FeatureInTraining | None
    below: float | None
    weight: float | None


@dataclass(frozen=True, slots=True)
class TransactionView:
    """The contents of a transaction's page.

    `coin` is the symbol of what pays for gas; `native_is_known` where the chain has logged all
    transfers of it.
    """

    chain: str
    coin: str
    transaction: LoadedTransaction
    orphaned: bool
    decision: StoredDecision | None
    alerts: list[Alert]
    flow: Flow
    moves: list[Move]
    moves_left_out: int
    nets: list[Net]
    nets_left_out: int
    worth: list[Worth]
    features: list[FeatureRow]
    weights: list[dict[str, Any]]
    weight_chart: Chart
    company: Company | None
    native_is_known: bool


def view_transaction(
    connection: Connection, chain_id: int, tx_hash: str, model: Model
) -> TransactionView | None:
    """Read the view from the database; None if the transaction is not stored."""
    found = find_transaction(connection, chain_id, tx_hash)
    if found is None:
        return None
    transaction, orphaned = found
    decision = newest_decision(connection, chain_id, tx_hash)
    tokens = find_tokens(connection, chain_id, {one.token for one in transaction.transfers})
    symbol = network(chain_id).native_symbol
    tokens[NATIVE] = TokenView(NATIVE, symbol, symbol, NATIVE_DECIMALS, well_known=True)
    moved = all_transfers(transaction)
    alerts, _ = list_alerts(connection, AlertFilter(tx_hash=tx_hash), sort="severity")
    named, company = None, None
    if decision is not None:
        version = decision.model_version
        named = find_features(connection, chain_id, tx_hash, version)
        company = company_of(connection, chain_id, tx_hash, decision.decider, version, model.inputs)
    weights = list(decision.explanation or []) if decision else []
    nets = net_changes(moved, tokens)
    return TransactionView(
        chain=described(chain_id),
        coin=symbol,
        transaction=transaction,
        orphaned=orphaned,
        decision=decision,
        alerts=[alert for alert in alerts if alert.chain_id == chain_id],
        flow=lay_out(moved, tokens, sender=transaction.sender, to=transaction.to),
        moves=[_move(one, tokens) for one in moved[:MAX_TRANSFERS]],
        moves_left_out=max(0, len(moved) - MAX_TRANSFERS),
        nets=nets[:MAX_NETS],
        nets_left_out=max(0, len(nets) - MAX_NETS),
        worth=_worth(decision, tokens),
        features=_features(model, named, weights, company),
        weights=weights,
        weight_chart=signed_bars(
            [
                (
                    "towards" if one["weight"] >= 0 else "away",
                    one["weight"],
                    f"{words(one['feature'])}: {signed(one['weight'])}",
                )
                for one in weights
            ]
        ),
        company=company,
        native_is_known=bool(transaction.native),
    )


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


def _worth(decision: StoredDecision | None, tokens: Mapping[str, TokenView]) -> list[Worth]:
    money = decision.money if decision is not None else None
    rows = []
    for who, parts in (("sender's side", "gained"), ("lost most", "lost")):
        for part in money[parts] if money else ():
            token, change = part["token"], int(part["amount"])
            decimals = decimals_of(token, tokens)
            rows.append(
                Worth(
                    who=who,
                    amount=amount(change, decimals),
                    exact=exact_amount(change, decimals),
                    token=token,
                    label=shown_label(token, tokens),
                    usd=part["usd"],
                    source=part["source"],
                )
            )
    return rows


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
