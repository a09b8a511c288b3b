"""Drift of the supervised model: what it predicts on, against what it was trained on."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from src.detection.bundle_files import DRIFT_FILE
from src.detection.supervised.model import SupervisedModel, load_fraud_model
from src.monitoring import metrics
from src.monitoring.drift.__main__ import main
from src.monitoring.drift.inputs import PROBABILITY, sample_of_predictions
from src.monitoring.drift.levels import Levels
from src.monitoring.drift.page import to_page
from src.monitoring.drift.verdict import Verdict, compare
from src.registry.drift_reference import parse_sample
from src.service.database.engine import Database
from src.service.database.scheduled_tasks import last_outcome
from src.service.drift_check import FRAUD_CHORE, FraudDriftCheck
from src.service.model_refresh import FraudModel
from tests.service.card_model import INPUTS, write_card_model
from tests.service.databases import sqlite_database
from tests.support.waiting import FakeClock

INTERVAL = 3_600.0
Floats = NDArray[np.float64]


def rows(count: int, seed: int, **moved: float) -> Floats:
    drawn = np.random.default_rng(seed).normal(size=(count, len(INPUTS)))
    for name, shift in moved.items():
        drawn[:, INPUTS.index(name)] += shift
    return drawn


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the reference that its training would write beside it."""
    written = write_card_model(tmp_path_factory.mktemp("card"))
    reference = sample_of_predictions(load_fraud_model(written), rows(3_000, 1), as_reference=True)
    written.with_name(DRIFT_FILE).write_text(reference.to_json())
    return written


@pytest.fixture(scope="module")
def model(path: Path) -> SupervisedModel:
    return load_fraud_model(path)


def test_a_reference_survives_its_file(path: Path, model: SupervisedModel) -> None:
    sample = parse_sample(path.with_name(DRIFT_FILE).read_text())
    assert sample.tokens is None
    assert set(sample.columns) == {PROBABILITY, *INPUTS}
    assert compare(sample, parse_sample(sample.to_json())).reasons == ()
    assert (sample.model_version, sample.size) == (model.version, 3_000)


def test_the_same_traffic_is_ok_and_moved_inputs_come_first(
    path: Path, model: SupervisedModel
) -> None:
    reference = parse_sample(path.with_name(DRIFT_FILE).read_text())
    usual = compare(reference, sample_of_predictions(model, rows(2_000, 2)))
    assert (usual.verdict, usual.reasons) == (Verdict.OK, ())
    times = np.array([1_700_000_000, *[1_700_200_000] * 1_999])
    moved = sample_of_predictions(model, rows(2_000, 2, V5=2.0, V7=0.4), times=times)
    drift = compare(reference, moved)
    assert drift.verdict is Verdict.RETRAIN
    assert [reason.split(":")[1].strip() for reason in drift.reasons][:2] == ["V5", "V7"]
    page = to_page(drift, Levels())
    assert page.index("V5") < page.index("V7")
    assert "2023-11-14 to 2023-11-17" in page
    assert "3,000" in page
    assert "<img" in page
    assert "unknown tokens" not in page


def ask(fraud: FraudModel, table: Floats) -> None:
    assert fraud.in_use is not None
    for row in table.tolist():
        fraud.in_use.remember(dict(zip(INPUTS, row, strict=True)))


def verdict() -> float:
    (gauge,) = metrics.FRAUD_DRIFT_VERDICT.collect()
    return gauge.samples[0].value


@pytest.fixture
def database() -> Iterator[Database]:
    with sqlite_database() as opened:
        yield opened


def stored_verdict(database: Database) -> str:
    with database.reading() as connection:
        _, outcome = last_outcome(connection, FRAUD_CHORE)
    return str(outcome["verdict"]) if outcome else "none"


def test_the_service_checks_when_it_has_enough_and_then_at_intervals(
    path: Path, database: Database
) -> None:
    fraud, clock = FraudModel(path, None), FakeClock()
    check = FraudDriftCheck(database, fraud, INTERVAL, clock)
    ask(fraud, rows(999, 3))
    assert check.check_if_due() is None
    assert (verdict(), stored_verdict(database)) == (-1, "none")
    ask(fraud, rows(1, 4))
    found = check.check_if_due()
    assert found is not None
    assert (found.verdict, verdict()) == (Verdict.OK, 0)
    assert found.current.size == 1_000
    assert len(found.current.dates) == 2
    ask(fraud, rows(5_000, 5, V9=2.0))
    assert check.check_if_due() is None
    clock.now += INTERVAL
    found = check.check_if_due()
    assert found is not None
    assert (found.verdict, verdict()) == (Verdict.RETRAIN, 2)
    assert stored_verdict(database) == "retrain"
    assert found.current.size == 5_000  # the newest ones
    fraud.take(path)
    assert check.check_if_due() is None
    assert verdict() == -1  # nothing is known of the new one yet


@pytest.mark.parametrize(
    ("present", "verdict"),
    [(1.0, Verdict.OK), (0.8, Verdict.WATCH), (0.1, Verdict.RETRAIN), (0.0, Verdict.RETRAIN)],
)
def test_an_input_that_goes_missing_is_noticed(
    model: SupervisedModel, present: float, verdict: Verdict
) -> None:
    reference = sample_of_predictions(model, rows(3_000, 1), as_reference=True)
    table = rows(3_000, 2)
    table[int(present * 3_000) :, 1] = np.nan
    drift = compare(reference, sample_of_predictions(model, table))
    assert drift.verdict is verdict, drift.reasons
    assert any(INPUTS[1] in reason and "missing" in reason for reason in drift.reasons) == (
        present < 1
    )


@pytest.mark.parametrize("moved", [-0.1, 0.1])
def test_a_constant_input_that_changes_is_noticed(model: SupervisedModel, moved: float) -> None:
    table = rows(3_000, 1)
    table[:, 1] = 0.4
    reference = sample_of_predictions(model, table, as_reference=True)
    assert compare(reference, sample_of_predictions(model, table)).reasons == ()
    table[:, 1] += moved
    reasons = compare(reference, sample_of_predictions(model, table)).reasons
    assert any(one.startswith(f"retrain: {INPUTS[1]}: stability index") for one in reasons), reasons


def test_a_model_without_a_reference_is_not_checked(tmp_path: Path, database: Database) -> None:
    fraud = FraudModel(write_card_model(tmp_path), None)
    ask(fraud, rows(1_000, 3))
    assert FraudDriftCheck(database, fraud, INTERVAL).check_if_due() is None


def test_the_command_compares_a_table(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "week.csv"
    pd.DataFrame(rows(1_500, 6, V3=3.0), columns=list(INPUTS)).assign(Class=0).to_csv(table)
    page, result = tmp_path / "drift.html", tmp_path / "drift.json"
    command = ["--fraud", "--model", str(path), "--reference", str(path.with_name(DRIFT_FILE)),
               "--current", str(table)]  # fmt: skip
    assert main([*command, "--html", str(page), "--json", str(result)]) == 4
    assert json.loads(result.read_text())["reasons"][0].startswith("retrain: V3")
    assert "V3" in page.read_text()
    pd.DataFrame({"V1": [1.0]}).to_csv(table)
    assert main(command) == 1
    texts = pd.DataFrame(rows(2, 6), columns=list(INPUTS)).astype(object)
    texts.iloc[1, 2] = "n/a?"
    texts.to_csv(table)
    assert main(command) == 1
    assert f"row 2, column {INPUTS[2]}: 'n/a?' is not a number" in capsys.readouterr().err
    texts.iloc[1, 2] = "inf"
    texts.to_csv(table)
    assert main(command) == 1
    assert f"{table}: not finite: {INPUTS[2]}" in capsys.readouterr().err
