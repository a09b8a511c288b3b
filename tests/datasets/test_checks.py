"""A data set is proved before it is stored: what is wrong is named by file, column and row."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from notebooks.sample import write_sample
from src.datasets.checks import check_data_set
from src.datasets.columns import Columns
from src.datasets.location import default_folder
from src.datasets.tables import TableError
from src.datasets.training_set import load_background
from src.registry.data_sets import checked
from src.training.evaluation.ablations import splits
from src.training.evaluation.sets import load_exploits
from src.training.retraining.data import prepare
from src.training.retraining.feedback import Feedback

LABEL = Columns("Class")
TRANSACTIONS, TRANSFERS = "transactions.parquet", "transfers.parquet"
EXPLOITS, MOVED = "exploit_transactions.csv.gz", "exploit_transfers.csv.gz"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder, blocks=12, per_block=4, attacks=4)
    return folder


def changed(sample: Path, folder: Path, name: str, change) -> Path:
    shutil.copytree(sample, folder)
    table = change(read(folder / name))
    if name.endswith(".parquet"):
        table.to_parquet(folder / name, index=False)
    else:
        table.to_csv(folder / name, index=False)
    return folder


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)


def with_value(column: str, row: int, value: object):
    def change(table: pd.DataFrame) -> pd.DataFrame:
        values = table[column].astype(object)
        values.iloc[row - 1] = value
        return table.assign(**{column: values})

    return change


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (TRANSACTIONS, with_value("tx_hash", 3, "0xAB"), "row 3, column tx_hash: '0xAB' must be 0"),
        (TRANSACTIONS, with_value("from_address", 2, "0x12"), "row 2, column from_address"),
        (TRANSACTIONS, with_value("block_hash", 4, "0x12"), "row 4, column block_hash: '0x12'"),
        (TRANSACTIONS, with_value("block_timestamp", 5, 1), "row 5, column block_timestamp: '1'"),
        (TRANSACTIONS, with_value("block_timestamp", 5, 2**40), "row 5, column block_timestamp"),
        (TRANSACTIONS, lambda t: t.assign(block_number=-1), "row 1, column block_number: '-1'"),
        (TRANSACTIONS, lambda t: t.assign(full_block="x"), "row 1, column full_block: 'x'"),
        (TRANSACTIONS, lambda t: t.drop(columns="source"), "lacks the column source"),
        (TRANSACTIONS, lambda t: pd.concat([t, t.iloc[[1]]]), "row 49, column tx_hash: repeats"),
        (TRANSACTIONS, lambda t: t.head(0), "no rows"),
        (TRANSACTIONS, lambda t: t.astype({"block_number": str}), "row 1, column block_number"),
        (TRANSFERS, with_value("value_raw", 4, None), "row 4, column value_raw: 'nan' must be"),
        (TRANSFERS, with_value("value_raw", 4, "-1"), "row 4, column value_raw: '-1'"),
        (TRANSFERS, with_value("value_raw", 1, str(2**256)), "must be a decimal uint256"),
        (TRANSFERS, lambda t: t.assign(log_index=0.5), "row 1, column log_index: '0.5'"),
        (TRANSFERS, lambda t: pd.concat([t, t.iloc[[0]]]), "column tx_hash and log_index: repeats"),
        (EXPLOITS, with_value("date", 2, "yesterday"), "row 2, column date: 'yesterday'"),
        (EXPLOITS, with_value("date", 2, "2999-01-01"), "row 2, column date: '2999-01-01'"),
        (EXPLOITS, with_value("label", 2, None), "row 2, column label"),
        (MOVED, with_value("tx_from", 6, "alice"), "row 6, column tx_from: 'alice'"),
        (MOVED, lambda t: t.drop(columns="seq"), "lacks the column seq"),
    ],
)
def test_a_wrong_value_is_named_by_column_and_row(sample, tmp_path, name, change, said):
    folder = changed(sample, tmp_path / "data", name, change)
    with pytest.raises(TableError) as refusal:
        check_data_set(folder)
    assert said in str(refusal.value)
    assert name in str(refusal.value)


@pytest.mark.parametrize("dates", [["2024-05", "2024-05-31T10:00:00+09:00"], ["2023", "2024"]])
def test_dates_of_any_precision_are_dates(sample, tmp_path, dates):
    folder = changed(sample, tmp_path / "data", EXPLOITS, lambda t: t.assign(date=dates * 2))
    check_data_set(folder)
    background, exploits = load_background(folder), load_exploits(folder)
    assert exploits is not None
    by_name = {name: tested for name, *_, tested in splits(background, exploits, "")}
    assert by_name["trained to 2022, tested from 2023, exploits dated from 2023"].all()


def test_a_list_that_calls_most_transactions_exploits_is_refused(sample, tmp_path):
    hashes = read(sample / TRANSACTIONS)["tx_hash"]
    listed = pd.DataFrame({"tx_hash": hashes, "label": "exploit", "protocol": "", "date": ""})
    folder = changed(sample, tmp_path / "data", EXPLOITS, lambda _: listed)
    with pytest.raises(TableError, match="column label calls 100% of the transactions"):
        check_data_set(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_value("V1", 7, "1,5"), "row 7, column V1: '1,5' is not a number; fix it"),
        (with_value("Class", 4, 2), "row 4, column Class: '2' is neither 0 nor 1"),
        (with_value("Class", 4, None), "the first is row 4"),
        (lambda t: t.assign(Class=1 - t["Class"]), "column Class calls 75% of the rows"),
        (with_value("V1", 2, "inf"), "row 2: V1 has infinite values"),
    ],
)
def test_a_labelled_table_is_proved_by_column_and_row(tmp_path, change, said):
    table = pd.DataFrame({"V1": range(20), "name": "x", "Class": [1, 0, 0, 0] * 5})
    table.to_csv(tmp_path / "right.csv", index=False)
    assert "Excluded, not numeric: name." in checked(tmp_path / "right.csv", LABEL).notes
    change(table).to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(TableError) as refusal:
        checked(tmp_path / "wrong.csv", LABEL)
    assert said in str(refusal.value)
    assert "wrong.csv" in str(refusal.value)


def test_golden_cases_expect_one_of_two_things(sample, tmp_path):
    folder = Path(shutil.copytree(sample, tmp_path / "data"))
    hashes = read(folder / TRANSACTIONS)["tx_hash"]
    cases = pd.DataFrame({"tx_hash": hashes[:2], "expected": ["NORMAL", "normal"]})
    cases.to_csv(folder / "golden_cases.csv", index=False)
    with pytest.raises(TableError, match="row 2, column expected: 'normal'"):
        check_data_set(folder)


def test_attacks_with_the_number_of_their_log_are_joined(sample, tmp_path):
    """Real lists have both `seq` and `log_index`."""
    folder = changed(
        sample, tmp_path / "data", MOVED, lambda t: t.assign(log_index=range(7, 7 + len(t)))
    )
    check_data_set(folder)
    attack = read(folder / EXPLOITS)["tx_hash"][0]
    golden = pd.DataFrame({"tx_hash": [attack], "expected": ["ANOMALY"]})
    golden.to_csv(folder / "golden_cases.csv", index=False)
    data = prepare([folder], Feedback(), tmp_path / "work")
    assert data.golden_set is not None
    assert data.golden_set.table["tx_hash"].tolist() == [attack]
    assert len(data.exploits) == 4


@pytest.mark.integration
def test_the_real_data_set_is_accepted_as_it_is(tmp_path):
    folder = default_folder()
    if folder is None:
        pytest.skip("no data set on this machine")
    check_data_set(folder)
    data = prepare([folder], Feedback(), tmp_path / "work")
    assert len(data.held_out) > 1000
    assert data.kept_attacks.sum() > 10
