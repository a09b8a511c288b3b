"""One transaction by itself and a table give the same, to the last bit; so does Spark, which gives
the bytes of one machine (`test_spark.py`).

The single transaction goes the whole way of the live bot, `handle_transaction` from an event with
logs, with a real node that knows its tokens. What the model is given, what it says and what is
decided is noted on that way; what a finding shows is held against it.
"""

import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from forta_agent import create_transaction_event

from src import agent
from src.chain.transfers import Transfer
from src.datasets.location import default_folder
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import Model, load_model
from src.detection.records import Assessment, AttackAssessment, Decision
from src.settings import PROJECT_ROOT
from tests.backtest.data import Transaction, hostile_history, write_dataset, write_etl
from tests.backtest.runs import THRESHOLD, rows_of, run
from tests.conftest import transfer_log
from tests.support.fake_chain import FakeNode, serve, usual_token

DATA = default_folder()
SEEDS = (11, 12, 13)


@dataclass(frozen=True)
class Handled:
    """What the live bot made of one transaction.

    Attributes:
        row: the model's inputs; None where it was not asked.
        assessment: its answer.
        decision: of all detectors.
        findings: as they leave the bot.
    """

    row: list[float] | None
    assessment: Assessment | None
    attack: AttackAssessment | None
    decision: Decision
    findings: list[dict[str, Any]]


class Spy:
    """Stands before an object of the bot and notes what passes through one of its methods."""

    def __init__(self, watched: Any, method: str) -> None:
        self._watched = watched
        self._method = method
        self.passed: list[tuple[tuple[Any, ...], Any]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._watched, name)
        if name != self._method:
            return found

        def noted(*arguments: Any) -> Any:
            result = found(*arguments)
            self.passed.append((arguments, result))
            return result

        return noted


class Node(FakeNode):
    """A node that knows tokens and tells no account's age, as a table of transactions does not."""

    def eth_getTransactionCount(self, address: str, block: str) -> str:  # noqa: N802
        raise ValueError(f"no history of {address} at {block}")


@pytest.fixture
def handle(
    start_bot: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Iterable[Transaction], dict[str, str]], dict[str, Handled]]:
    """Has the live bot handle transactions in order of the chain; `symbols` by token."""

    def handled(history: Iterable[Transaction], symbols: dict[str, str]) -> dict[str, Handled]:
        node = Node({token: usual_token(symbol, symbol) for token, symbol in symbols.items()})
        found = {}
        with serve(node.answer) as url:
            start_bot(
                MODEL_PATH=str(PROJECT_ROOT / "isolation_forest.pkl"),
                ANOMALY_THRESHOLD=str(THRESHOLD),
                JSON_RPC_URL=url,
                NORMAL_FINDINGS="all",
            )
            bot = agent.BOT
            assert bot is not None
            assessor = Spy(bot.pipeline.assessor, "assess")
            pipeline = Spy(replace(bot.pipeline, assessor=assessor), "assess")
            monkeypatch.setattr(agent, "BOT", replace(bot, pipeline=pipeline))
            for transaction in sorted(history, key=lambda t: (t.block, t.index, t.tx_hash)):
                if not transaction.transfers:
                    continue
                assessor.passed.clear()
                pipeline.passed.clear()
                findings = agent.handle_transaction(event_of(transaction))
                row, assessment = None, None
                if assessor.passed:
                    ((row,), assessment) = assessor.passed[-1]
                ((_, result),) = pipeline.passed
                found[transaction.tx_hash] = Handled(
                    None if row is None else row.tolist(),
                    assessment,
                    result.attack,
                    result.decision,
                    [json.loads(finding.toJson()) for finding in findings],
                )
        return found

    return handled


def event_of(t: Transaction) -> Any:
    """The transaction as the bridge hands it over."""
    return create_transaction_event(
        {
            "transaction": {"hash": t.tx_hash, "from": t.sender, "to": t.to, "nonce": t.nonce},
            "block": {"hash": "0x" + "b" * 64, "number": t.block, "timestamp": t.timestamp},
            "network": 1,
            "logs": [
                transfer_log(m.token, m.sender, m.recipient, m.amount) | {"logIndex": m.log_index}
                for m in t.transfers
            ],
        }
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(PROJECT_ROOT / "isolation_forest.pkl", FEATURE_NAMES)


def assert_same(out: Path, live: dict[str, Handled], inputs: tuple[str, ...]) -> int:
    """Compare a run's output with what the bot made of the same; returns the number of alerts."""
    decisions = rows_of(out)
    assert sorted(decisions.index) == sorted(live)
    alerts = {tx_hash: row._asdict() for tx_hash, row in by_hash(rows_of(out, "alerts"))}
    for tx_hash, row in by_hash(decisions):
        table, one = row._asdict(), live[tx_hash]
        assert table["action"] == one.decision.action.name
        decided = [
            {"detector": v.detector, "action": v.action.name, "status": str(v.status),
             "reason": v.reason}
            for v in one.decision.reasons
        ]  # fmt: skip
        shown = {finding["alertId"]: finding["metadata"] for finding in one.findings}
        if one.assessment is None:
            assert table["prediction"] == "INVALID"
            assert pd.isna(table["anomaly_score"])
            assert "INVALID-TOKEN-TRANSFERS-TX" in shown
        else:
            score, percentile = one.assessment.score, one.assessment.percentile
            assert (table["anomaly_score"], table["anomaly_percentile"]) == (score, percentile)
            assert one.attack is not None
            assert table["attack_score"] == one.attack.score
            assert one.row is not None
            assert bits([table[name] for name in inputs]) == bits(one.row)
            anomaly = score >= THRESHOLD
            assert table["prediction"] == ("ANOMALY" if anomaly else "NORMAL")
            primary = shown[f"{'ANOMALOUS' if anomaly else 'NORMAL'}-TOKEN-TRANSFERS-TX"]
            assert primary["anomaly_score"] == f"{table['anomaly_score']:.3f}"
            assert primary["action"] == table["action"]
            assert primary["attack_score"] == f"{table['attack_score']:.6f}"
            if one.attack.attributions:
                assert json.loads(alerts[tx_hash]["attack_explanations"]) == [
                    {"feature": w.feature, "value": w.value, "weight": w.weight}
                    for w in one.attack.attributions
                ]
        alert = alerts.pop(tx_hash, None)
        if alert is None:
            assert table["prediction"] != "ANOMALY"
            assert table["action"] == "ALLOW"
            continue
        assert json.loads(alert["reasons"]) == decided
        if table["prediction"] == "ANOMALY":
            assert one.assessment is not None
            assert json.loads(alert["model_explanations"]) == [
                {"feature": w.feature, "value": w.value, "weight": w.weight}
                for w in one.assessment.attributions
            ]
    assert not alerts
    return len(rows_of(out, "alerts"))


def by_hash(table: pd.DataFrame) -> Iterable[tuple[str, Any]]:
    return zip(table.index, table.itertuples(index=False), strict=True)


def bits(values: Iterable[float]) -> list[bytes]:
    """So that -0.0 is not 0.0."""
    return [np.float64(value).tobytes() for value in values]


def write_symbols(folder: Path, symbols: dict[str, str]) -> None:
    with gzip.open(folder / "tokens.csv.gz", "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("address", "symbol"), *symbols.items()])


# Generated transactions that try everything


@pytest.fixture(scope="module")
def hostile(model: Model) -> tuple[list[Transaction], dict[str, str]]:
    """Several histories one after the other, and their tokens' symbols: some pretend."""
    tokens = list(model.manifest.token_amounts)
    history = []
    for number, seed in enumerate(SEEDS):
        for transaction in hostile_history(seed, tokens=tokens[number * 4 :]):
            transaction.block += 1_000 * number
            history.append(transaction)
    crowd = [f"0x{number:040x}" for number in range(1, 81)]
    for transaction in history[::40]:  # more tokens than a finding shows
        transfers = transaction.transfers
        first = 1 + max((m.log_index for m in transfers), default=0)
        payer, payee = crowd[0], crowd[1]
        transfers += [
            Transfer(token, payer, payee, 10**6, first + index) for index, token in enumerate(crowd)
        ]
    seen = dict.fromkeys(m.token for t in history for m in t.transfers)
    pretended = ["USDC", "usdt", "WETH", "Honest", "<b>", "D\u0430I", ""]
    symbols = {token: pretended[at % len(pretended)] for at, token in enumerate(seen)}
    return history, symbols


def test_hostile_transactions_get_from_tables_what_the_bot_gives_each(
    tmp_path: Path, handle: Any, hostile: Any, model: Model
) -> None:
    history, symbols = hostile
    live = handle(history, symbols)
    for layout, write in (("data set", write_dataset), ("ethereum-etl", write_etl)):
        data, out = tmp_path / layout / "data", tmp_path / layout / "out"
        write(data, history)
        write_symbols(data, symbols)
        assert run(data, out, "--features") == 0
        assert assert_same(out, live, model.inputs) > 50


# Real ones


@dataclass
class Dated(Transaction):
    """A transaction with its own time."""

    time: int = 0

    @property
    def timestamp(self) -> int:
        return self.time


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Transaction], Any]:
    """Every known exploit and each 32nd ordinary transaction of the data set, with tokens."""
    assert DATA is not None
    facts = pd.read_parquet(DATA / "transactions.parquet")
    facts = facts[facts["tx_hash"].str.fullmatch("0x.{62}[02468ace]0")]
    moved = pd.read_parquet(DATA / "transfers.parquet")
    moved = moved[(moved["token_std"] == "erc20") & moved["tx_hash"].isin(facts["tx_hash"])]
    stolen = pd.read_csv(DATA / "exploit_transfers.csv.gz", dtype={"value_raw": str})
    stolen = stolen[stolen["preferred"] == 1].sort_values("seq", kind="stable")
    transfers: dict[str, list[Transfer]] = {}
    for table, order in ((moved.sort_values("log_index"), "log_index"), (stolen, "seq")):
        names = ["tx_hash", "token_address", "from_address", "to_address", "value_raw", order]
        for tx_hash, *addresses, amount, index in table[names].itertuples(index=False):
            transfers.setdefault(tx_hash, []).append(Transfer(*addresses, int(amount), int(index)))
    attacks = stolen.drop_duplicates("tx_hash")
    attacks = attacks[~attacks["tx_hash"].isin(facts["tx_hash"])]
    attacks = attacks[["tx_hash", "block_number", "timestamp", "tx_from"]]
    attacks.columns = pd.Index(["tx_hash", "block_number", "block_timestamp", "from_address"])
    # What was rebuilt from calls bears no block: one of their own, late, for each.
    attacks["block_number"] = attacks["block_number"].fillna(attacks.index.to_series() + 10**8)
    attacks["block_timestamp"] = attacks["block_timestamp"].fillna(1_900_000_000)
    history: list[Transaction] = [
        Dated(
            t.tx_hash, int(t.block_number), number(t.tx_index, 0), text(t.from_address),
            text(t.to_address), number(t.nonce), transfers[t.tx_hash], time=int(t.block_timestamp),
        )
        for t in pd.concat([facts, attacks]).itertuples()
        if t.tx_hash in transfers
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("real")
    write_dataset(folder, history)
    shutil.copy(DATA / "tokens.csv.gz", folder)
    with gzip.open(DATA / "tokens.csv.gz", "rt", encoding="utf-8", newline="") as file:
        symbols = {row["address"]: row["symbol"] for row in csv.DictReader(file)}
    return folder, history, symbols


def number(value: Any, missing: Any = None) -> Any:
    return missing if pd.isna(value) else int(value)


def text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


@pytest.mark.skipif(DATA is None, reason="the data set is not at hand")
@pytest.mark.integration
def test_real_transactions_get_from_tables_what_the_bot_gives_each(
    tmp_path: Path, handle: Any, real: Any, model: Model
) -> None:
    data, history, symbols = real
    live = handle(history, symbols)
    assert len(live) > 500
    assert run(data, tmp_path / "tables", "--features") == 0
    assert assert_same(tmp_path / "tables", live, model.inputs) > 80
