"""The pages of an account and of a token: what the service has seen of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from src.chain.transfers import Transfer
from src.decision.tokens import TokenView, decimals_of, labels_in
from src.service.context import Service
from src.service.database.alerts import AlertFilter
from src.service.database.cases import count_cases, list_cases
from src.service.database.chain import find_tokens, keys_of_account
from src.service.database.tables import transfers
from src.service.formatting import amount, exact_amount
from src.service.web.explorer import queries
from src.service.web.forms import page_within, whole_or_none
from src.service.web.queries import tokens_moved
from src.service.web.rendering import explorer_of

PAGE: Final = 25
_ALERTS: Final = 5
_TOP: Final = 12
_MAX_CHANGES: Final = 3


@dataclass(frozen=True, slots=True)
class Change:
    """An amount of a token that came in or went out."""

    token: str
    label: str  # of the token, unique among those shown with it
    # amount, exact: in token units, without sign.
    amount: str
    exact: str
    is_gain: bool  # whether it came in


@dataclass(slots=True)
class Flow:
    """What came in and went out, in raw units, with the number of transfers."""

    received: int = 0
    sent: int = 0
    transfers: int = 0

    @property
    def net(self) -> int:
        """What came in, less what went out."""
        return self.received - self.sent


def read_account(service: Service, account: str, query: Mapping[str, str]) -> dict[str, Any]:
    """What `account.html` shows. Raises Problem 400 for an invalid page or chain."""
    chain_id = _chain(service, query)
    with service.database.reading() as connection:
        listed = queries.among(chain_id, keys_of_account(account))
        page = _transactions(service, connection, chain_id, listed, query)
        own = queries.moved_by(account)
        hashes = [one.tx_hash for one, _ in page["transactions"]]
        here = queries.transfers_in(connection, chain_id, hashes, own)
        newest = queries.newest_transfers(connection, chain_id, own)
        wanted = AlertFilter(chain_id=chain_id, account=account, orphaned=False)
        alerts = _alerts(connection, wanted)
        moved = [transfer for _, transfer in newest]
        tokens = find_tokens(connection, chain_id, {one.token for _, one in (*here, *newest)})
        is_token = queries.is_token(connection, chain_id, account)
    labels = labels_in({one.token for one in (*moved, *(one for _, one in here))}, tokens)
    return {
        **page,
        **alerts,
        "account": account,
        "is_token": is_token,
        "changes": _changes_by_transaction(account, here, tokens, labels),
        "holdings": _holdings(account, moved, tokens, labels),
        "peers": _peers(account, moved, labels),
        "summed": len(moved),
        "is_capped": len(moved) == queries.NEWEST,
    }


def read_token(service: Service, token: str, query: Mapping[str, str]) -> dict[str, Any]:
    """What `token.html` shows. Raises Problem 400 for an invalid page or chain."""
    chain_id = _chain(service, query)
    own = transfers.c.token == token
    with service.database.reading() as connection:
        listed = queries.among(chain_id, queries.keys_of_token(token))
        page = _transactions(service, connection, chain_id, listed, query)
        hashes = [one.tx_hash for one, _ in page["transactions"]]
        here = queries.transfers_in(connection, chain_id, hashes, own)
        moved = [one for _, one in queries.newest_transfers(connection, chain_id, own)]
        alerts = _alerts(connection, AlertFilter(chain_id=chain_id, token=token, orphaned=False))
        tokens = find_tokens(connection, chain_id, [token])
    view = tokens.get(token)
    decimals = decimals_of(token, tokens)
    sums: Counter[str] = Counter()
    for tx_hash, one in here:
        sums[tx_hash] += one.amount
    flows = _flows_by_account(moved)
    ranked = sorted(flows.items(), key=lambda one: (-one[1].transfers, one[0]))[:_TOP]
    return {
        **page,
        **alerts,
        "token": token,
        "view": view,
        "amounts": {tx_hash: amount(total, decimals) for tx_hash, total in sums.items()},
        "accounts": [
            (account, _change(token, flow.net, tokens, {token: ""}), flow.transfers)
            for account, flow in ranked
        ],
        "summed": len(moved),
        "is_capped": len(moved) == queries.NEWEST,
    }


def _chain(service: Service, query: Mapping[str, str]) -> int:
    chain_id = whole_or_none("chain", query.get("chain", ""))
    return service.chain_id if chain_id is None else chain_id


def _transactions(
    service: Service, connection: Connection, chain_id: int, listed: Any, query: Mapping[str, str]
) -> dict[str, Any]:
    """A page of transactions, and what the links to the others and to other pages need."""
    summary = queries.summary_of(connection, listed)
    number, pages = page_within(query, summary.transactions, PAGE)
    return {
        "summary": summary,
        "transactions": queries.list_transactions(
            connection, listed, limit=PAGE, offset=(number - 1) * PAGE
        ),
        "chain_id": chain_id,
        "own_chain": service.chain_id,
        "site": explorer_of(chain_id, is_demo=service.is_demo),
        "page_number": number,
        "pages": pages,
    }


def _alerts(connection: Connection, wanted: AlertFilter) -> dict[str, Any]:
    """The most severe cases, what their worth was, and their number by state."""
    cases = list_cases(connection, wanted, sort="severity", limit=_ALERTS)
    counts = count_cases(connection, wanted)
    return {
        "cases": cases,
        "cases_total": counts.total(),
        "moved": tokens_moved(connection, [(one.top.chain_id, one.top.tx_hash) for one in cases]),
        "states": {
            state: sum(count for (_, one), count in counts.items() if one == state)
            for state in ("new", "in_work", "done")
        },
    }


def _flow(account: str, flow: Flow, transfer: Transfer) -> None:
    flow.transfers += 1
    if transfer.recipient == account:
        flow.received += transfer.amount
    if transfer.sender == account:
        flow.sent += transfer.amount


def _changes_by_transaction(
    account: str,
    moved: Iterable[tuple[str, Transfer]],
    tokens: Mapping[str, TokenView],
    labels: Mapping[str, str],
) -> dict[str, list[Change]]:
    """The account's net changes in each transaction, a few, by hash."""
    flows: dict[str, dict[str, Flow]] = {}
    for tx_hash, one in moved:
        _flow(account, flows.setdefault(tx_hash, {}).setdefault(one.token, Flow()), one)
    return {
        tx_hash: [
            _change(token, flow.net, tokens, labels) for token, flow in own.items() if flow.net
        ][:_MAX_CHANGES]
        for tx_hash, own in flows.items()
    }


def _holdings(
    account: str,
    moved: Iterable[Transfer],
    tokens: Mapping[str, TokenView],
    labels: Mapping[str, str],
) -> list[tuple[Change, str, str, int]]:
    """(net change, received, sent, transfers) of the most moved tokens."""
    flows: dict[str, Flow] = {}
    for one in moved:
        _flow(account, flows.setdefault(one.token, Flow()), one)
    ranked = sorted(flows.items(), key=lambda one: (-one[1].transfers, one[0]))[:_TOP]
    return [
        (
            _change(token, flow.net, tokens, labels),
            amount(flow.received, decimals_of(token, tokens)),
            amount(flow.sent, decimals_of(token, tokens)),
            flow.transfers,
        )
        for token, flow in ranked
    ]


def _peers(
    account: str, moved: Sequence[Transfer], labels: Mapping[str, str]
) -> list[tuple[str, int, int, list[str]]]:
    """(account, transfers from it, transfers to it, tokens) of the most frequent counterparties."""
    sent = Counter(one.recipient for one in moved if one.sender == account)
    received = Counter(one.sender for one in moved if one.recipient == account)
    both = {one: count for one, count in (sent + received).items() if one != account}
    ranked = sorted(both, key=lambda one: (-both[one], one))[:_TOP]
    return [
        (
            peer,
            received[peer],
            sent[peer],
            sorted({labels[one.token] for one in moved if peer in (one.sender, one.recipient)}),
        )
        for peer in ranked
    ]


def _flows_by_account(moved: Iterable[Transfer]) -> dict[str, Flow]:
    flows: dict[str, Flow] = {}
    for one in moved:
        for account in {one.sender, one.recipient}:
            _flow(account, flows.setdefault(account, Flow()), one)
    return flows


def _change(
    token: str, net: int, tokens: Mapping[str, TokenView], labels: Mapping[str, str]
) -> Change:
    decimals = decimals_of(token, tokens)
    return Change(
        token, labels[token], amount(abs(net), decimals), exact_amount(abs(net), decimals), net > 0
    )
