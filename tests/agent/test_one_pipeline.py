"""The live bot, the service, replay and a backtest raise the same alerts about the same history.

Each goes its whole own way: an event through `handle_transaction`; a loaded transaction through the
service's decider into its database and out again; the same transaction read back from a replay node
over JSON-RPC; and the table form of a backtest. Compared are alert ids, severities and every text.
"""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eth_abi.abi import encode
from forta_agent import FindingSeverity
from starlette.testclient import TestClient

from src import agent
from src.chain.recording.format import Recording, TokenAnswers, open_writer
from src.chain.recording.rows import RecordedBlock, encode_block
from src.chain.replay.chain import RecordedChain
from src.chain.replay.methods import ReplayMethods
from src.chain.transfers import TRANSFER_TOPIC, Transfer
from src.decision.alerts import ANOMALOUS, INVALID, NORMAL
from src.detection.counterparties import CounterpartyBook
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.service.app import create_app
from src.service.context import store_outcome
from src.service.database.alerts import AlertFilter, list_alerts
from src.service.database.engine import Database
from src.service.decider import Decider
from src.service.node import NodeReader
from src.service.records import LoadedTransaction
from src.settings import PROJECT_ROOT
from tests.backtest.data import Transaction, hostile_history, write_dataset
from tests.backtest.runs import THRESHOLD, rows_of, run
from tests.backtest.test_equality import DATA, event_of, real  # noqa: F401  a fixture
from tests.chain.recording.blocks import WORD, block_hash, make_block, make_log
from tests.chain.replay.served import serve_methods
from tests.conftest import transfer_log
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url
from tests.service.databases import database_url

TRANSACTIONS = 120
MODEL = PROJECT_ROOT / "isolation_forest.pkl"


class Raised(NamedTuple):
    """An alert as people see it, wherever."""

    alert_id: str
    name: str
    description: str
    severity: str
    reason: str


Alerts = dict[str, list[Raised]]


def generated() -> tuple[list[Transaction], dict[str, str]]:
    """Transactions that try everything, and their tokens' symbols: some pretend to be another."""
    tokens = list(load_model(MODEL, FEATURE_NAMES).manifest.token_amounts)
    history: list[Transaction] = []
    for seed in range(20):
        for transaction in hostile_history(seed, tokens=tokens[seed:]):
            transaction.block += 1_000 * seed
            if transaction.transfers:
                history.append(transaction)
    # Those without a sender come last: a node serves none, and what they would add to the memory of
    # counterparties is missing there.
    history = sorted(history[:TRANSACTIONS], key=lambda t: t.sender is None)
    for transaction in history:
        transaction.block += 10**5 * (transaction.sender is None)
    seen = dict.fromkeys(m.token for t in history for m in t.transfers)
    pretended = ["USDC", "usdt", "WETH", "Honest", "<b>", "D\u0430I", ""]
    return history, {token: pretended[at % len(pretended)] for at, token in enumerate(seen)}


def write_history(folder: Path, history: Sequence[Transaction], symbols: dict[str, str]) -> None:
    """A data set that a backtest reads."""
    write_dataset(folder, list(history))
    with gzip.open(folder / "tokens.csv.gz", "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("address", "symbol", "decimals", "name"))
        writer.writerows([(token, symbol, 18, symbol) for token, symbol in symbols.items()])


def write_recording(folder: Path, history: Sequence[Transaction], symbols: dict[str, str]) -> None:
    """The same as a recording that a replay node serves, in which everybody has a sender."""
    texts = {symbol: f"0x{encode(['string'], [symbol]).hex()}" for symbol in symbols.values()}
    answers = [
        TokenAnswers(token, texts[symbol], texts[symbol], f"0x{18:064x}")
        for token, symbol in symbols.items()
    ]
    with open_writer(folder, 1) as writer:
        written = -1
        for number, block in groupby(history, key=lambda t: t.block):
            if number != written + 1:
                writer.write()  # a part has no gaps
            writer.add(encode_block(recorded(number, list(block)), receipts_root_verified=False))
            written = number
        writer.write(answers)


def recorded(number: int, transactions: Sequence[Transaction]) -> RecordedBlock:
    made = make_block(number, [])
    (transaction,), (receipt,) = made.block["transactions"], made.receipts
    sent, received = [], []
    for one in transactions:
        parties = {"from": one.sender, "to": one.to, "transactionIndex": hex(one.index)}
        sent.append(transaction | parties | {"hash": one.tx_hash, "nonce": hex(one.nonce)})
        logs = [
            make_log(
                moved.log_index,
                address=moved.token,
                topics=[TRANSFER_TOPIC, WORD + moved.sender[2:], WORD + moved.recipient[2:]],
                data=f"0x{moved.amount:064x}",
            )
            for moved in one.transfers
        ]
        received.append(receipt | parties | {"transactionHash": one.tx_hash, "logs": logs})
    changes = {
        "parentHash": block_hash(max(0, number - 1)),
        "timestamp": hex(transactions[0].timestamp),
        "transactions": sent,
    }
    return RecordedBlock(made.block | changes, received)


@contextmanager
def served_without_nonces(folder: Path) -> Iterator[str]:
    """A replay node that knows nobody's age, as a table does not."""
    methods = ReplayMethods(RecordedChain(Recording(folder))).methods
    del methods["eth_getTransactionCount"]
    with serve_methods(methods) as url:
        yield url


def live(history: Sequence[Transaction]) -> Alerts:
    found = {}
    for transaction in history:
        findings = [json.loads(f.toJson()) for f in agent.handle_transaction(event_of(transaction))]
        assert findings
        found[transaction.tx_hash] = [
            Raised(
                finding["alertId"],
                finding["name"],
                finding["description"],
                FindingSeverity(finding["severity"]).name,
                _reason(finding),
            )
            for finding in findings
            if finding["alertId"] != NORMAL.id
        ]
    return found


def _reason(finding: dict[str, Any]) -> str:
    """A rule's own and an invalid finding say why; an anomalous one has all in its reasons."""
    metadata = finding["metadata"]
    if finding["alertId"] != ANOMALOUS.id:
        return str(metadata["reason"])
    verdicts = json.loads(metadata["reasons"])
    for one in verdicts:
        if one["detector"] == "isolation_forest" and one.get("status") == "out of scope":
            return str(one["reason"])
    asking = [one for one in verdicts if one.get("action") in ("REVIEW", "BLOCK")]
    return "; ".join(one["reason"] for one in asking if one["detector"] != "isolation_forest")


def stored(decider: Decider, transactions: Sequence[LoadedTransaction], folder: Path) -> Alerts:
    """What the service decides and keeps."""
    database = Database(database_url("sqlite", folder))
    database.migrate()
    found: Alerts = {}
    for transaction in transactions:
        store_outcome(database, transaction, decider.decide(transaction))
        found[transaction.tx_hash] = []
    with database.reading() as connection:
        alerts, _ = list_alerts(connection, AlertFilter(), sort="time", limit=10_000)
    database.close()
    for alert in alerts:
        found[alert.tx_hash].append(
            Raised(alert.alert_id, alert.name, alert.description, alert.severity, alert.reason)
        )
    return found


def backtested(data: Path, out: Path) -> Alerts:
    assert run(data, out) == 0
    found: Alerts = {tx_hash: [] for tx_hash in rows_of(out).index}
    for tx_hash, texts in rows_of(out, "alerts")["alerts"].items():
        found[tx_hash] = [
            Raised(a["alert_id"], a["name"], a["description"], a["severity"], a["reason"])
            for a in json.loads(texts)
            if a["alert_id"] != NORMAL.id
        ]
    return found


def loaded(t: Transaction) -> LoadedTransaction:
    transfers = tuple(sorted(t.transfers, key=lambda transfer: transfer.log_index))
    return LoadedTransaction(
        t.tx_hash, t.block, f"0x{t.block:064x}", t.timestamp, t.index, t.sender, t.to, t.nonce,
        None, None, transfers,
    )  # fmt: skip


@pytest.fixture(params=["generated", "real"])
def history(request: pytest.FixtureRequest) -> Iterator[tuple[list[Transaction], dict[str, str]]]:
    if request.param == "generated":
        yield generated()
        return
    if DATA is None:
        pytest.skip("the data set is not at hand")
    _, transactions, symbols = request.getfixturevalue("real")
    newest = transactions[-TRANSACTIONS:]  # the known exploits are last
    moved = {m.token for t in newest for m in t.transfers}
    yield newest, {token: symbols[token] for token in moved if token in symbols}


@pytest.mark.integration
def test_all_ways_to_a_decision_raise_the_same_alerts(
    start_bot: Any, tmp_path: Path, history: tuple[list[Transaction], dict[str, str]]
) -> None:
    transactions, symbols = history
    transactions.sort(key=lambda t: (t.block, t.index, t.tx_hash))
    places: Counter[int] = Counter()
    for transaction in transactions:  # exploits rebuilt from calls have no place in their block
        transaction.index = places[transaction.block]
        places[transaction.block] += 1
        if transaction.nonce is None:
            transaction.nonce = 0  # a node knows every nonce
    assert len(transactions) == TRANSACTIONS
    data = tmp_path / "data"
    write_history(data, transactions, symbols)
    # A node serves no transactions without a sender.
    served = [t for t in transactions if t.sender is not None]
    write_recording(tmp_path / "recording", served, symbols)
    with served_without_nonces(tmp_path / "recording") as url, ExitStack() as opened:
        start_bot(
            MODEL_PATH=str(MODEL),
            ANOMALY_THRESHOLD=str(THRESHOLD),
            JSON_RPC_URL=url,
            JSON_RPC_REQUESTS_PER_SECOND="10000",
            LOOKUP_DEADLINE_SECONDS="25",
            REPEAT_WINDOW_MINUTES="0",
        )
        found = live(transactions)

        def decider() -> Decider:
            settings = common_settings(
                url, anomaly_threshold=THRESHOLD, lookup_deadline_seconds=25.0
            )
            made = Decider(settings, book=CounterpartyBook())
            opened.callback(made.close)
            return made

        (tmp_path / "service").mkdir()
        by_service = stored(decider(), [loaded(t) for t in transactions], tmp_path / "service")
        node = NodeReader(url, requests_per_second=10_000, verify=False, patience=5.0)
        opened.callback(node.close)
        read = [node.transaction(t.tx_hash) for t in served]
        assert None not in read
        (tmp_path / "replay").mkdir()
        by_replay = stored(decider(), [one for one in read if one], tmp_path / "replay")
    by_backtest = backtested(data, tmp_path / "out")

    kinds = Counter(alert.alert_id for alerts in found.values() for alert in alerts)
    assert sum(kinds.values()) > 50
    assert kinds[ANOMALOUS.id] > 10
    assert by_service.keys() == found.keys()
    for tx_hash, alerts in found.items():
        assert sorted(by_service[tx_hash]) == sorted(alerts)
    assert by_replay.keys() == {t.tx_hash for t in served}
    for tx_hash, alerts in by_replay.items():
        assert sorted(alerts) == sorted(found[tx_hash])
    # A table of alerts leaves out what could not be scored and is not suspicious either.
    invalid = {tx for tx, alerts in found.items() if INVALID.id in {a.alert_id for a in alerts}}
    predictions = rows_of(tmp_path / "out")["prediction"]
    assert set(predictions.index[predictions == "INVALID"]) == invalid
    for tx_hash, alerts in found.items():
        suspicious = [alert for alert in alerts if alert.alert_id != INVALID.id]
        assert [a for a in by_backtest[tx_hash] if a.alert_id != INVALID.id] == suspicious


VAULT = "0xba12222222228d8ba445958a75a0704d566bf2c8"
OWN = "0x" + "0e" * 20
NAMED = (f"Balancer V2 vault ({VAULT}) loses 3 tokens", f"Our fund ({OWN}) loses 3 tokens")
"""What `drained_account` says of a published contract, and of one that the operator has named."""


def drained(account: str, number: int) -> Transaction:
    """A sender takes three tokens of an account that did not sign."""
    sender, tokens = f"0x{number:040x}", [f"0x{0xF0 + at:040x}" for at in range(3)]
    moved = [Transfer(token, account, sender, 10**18, at) for at, token in enumerate(tokens)]
    return Transaction(f"0x{number:064x}", number, 0, sender, f"0x{99:040x}", 5, moved)


@pytest.mark.integration
def test_known_contracts_have_their_names_in_every_answer(
    start_bot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, data = tmp_path / "names.csv", tmp_path / "data"
    names.write_text(f"{OWN},Our fund\n")
    history = [drained(account, number) for number, account in enumerate((VAULT, OWN), start=1)]
    write_history(data, history, {})
    write_recording(tmp_path / "recording", history, {})
    monkeypatch.setenv("ADDRESS_BOOK", str(names))
    with served_without_nonces(tmp_path / "recording") as url:
        start_bot(MODEL_PATH=str(MODEL), ADDRESS_BOOK=str(names), JSON_RPC_URL=url)
        findings = [agent.handle_transaction(event_of(transaction)) for transaction in history]
        service = service_settings(sqlite_url(tmp_path))
        app = create_app(service, common_settings(url, address_book=names))
        with TestClient(app, base_url=BASE_URL) as client:
            paths = [f"/transactions/{transaction.tx_hash}/decision" for transaction in history]
            decided = [client.post(path).json() for path in paths]
            assert decided == [client.get(path).json() for path in paths]
            first = history[0]
            logs = [transfer_log(m.token, m.sender, m.recipient, m.amount) for m in first.transfers]
            event = {"transaction": {"from": first.sender, "to": first.to}, "logs": logs}
            assert NAMED[0] in client.post("/decisions", json=event).text
            listed = [client.get("/alerts").text]
            listed += [client.get(f"/ui/alerts.{kind}").text for kind in ("csv", "json")]
    for position, text in enumerate(NAMED):
        own = [finding for finding in findings[position] if finding.alert_id == "DRAINED-ACCOUNT"]
        assert [text in finding.metadata["reason"] for finding in own] == [True]
        assert all(text in finding.metadata["reasons"] for finding in findings[position])
        assert text in json.dumps(decided[position]["reasons"])
        assert [text in answer for answer in listed] == [True] * 3
    assert run(data, tmp_path / "out") == 0
    alerts = rows_of(tmp_path / "out", "alerts")
    for transaction, text in zip(history, NAMED, strict=True):
        row = alerts.loc[transaction.tx_hash]
        assert text in row["reasons"]
        assert text in row["alerts"]
        assert text.split(" (")[0] in row["summary"]
