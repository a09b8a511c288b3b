"""`--data -`: what a pipe can hold, and one table that holds everything."""

import csv
import io
import json
import os
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from src.datasets.tables import TableError
from src.history.importing import ImportOptions, import_history
from tests.history.imports import as_csv, imported, rows_of

Pipe = Callable[[bytes], None]
Rows = list[dict[str, Any]]

NAMES = {
    "Dune": "evt_tx_hash evt_block_number evt_index contract_address from to value "
    "evt_tx_from evt_tx_to evt_tx_index evt_block_time",
    "Dune's tokens.transfers": "tx_hash block_number evt_index contract_address from to "
    "amount_raw tx_from tx_to tx_index block_time",
    "Flipside": "TX_HASH BLOCK_NUMBER EVENT_INDEX CONTRACT_ADDRESS FROM_ADDRESS TO_ADDRESS "
    "RAW_AMOUNT_PRECISE ORIGIN_FROM_ADDRESS ORIGIN_TO_ADDRESS TX_POSITION BLOCK_TIMESTAMP",
}


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Makes standard input a pipe with this content."""
    with ExitStack() as stack:

        def opened(content: bytes) -> None:
            reading, writing = os.pipe()

            def write() -> None:
                with os.fdopen(writing, "wb") as file:
                    file.write(content)

            writer = threading.Thread(target=write)
            writer.start()
            stack.callback(writer.join)
            monkeypatch.setattr(sys, "stdin", stack.enter_context(os.fdopen(reading)))

        yield opened


@pytest.fixture(scope="module")
def joined(etl: Path) -> pa.Table:
    """Transfers beside the facts of their transactions, in the order of `NAMES`."""
    transactions, transfers = (
        pq.read_table(etl / f"{name}.parquet") for name in ("transactions", "token_transfers")
    )
    of = transactions.take(pc.index_in(transfers["transaction_hash"], transactions["hash"]))
    names = ("transaction_hash", "block_number", "log_index", "token_address", "from_address",
             "to_address", "value")  # fmt: skip
    facts = ("from_address", "to_address", "transaction_index", "block_timestamp")
    columns = [transfers[name] for name in names] + [of[name] for name in facts]
    return pa.table(columns, NAMES["Dune"].split())


def without_nonce(rows: Rows) -> Rows:
    return [{**row, "nonce": None} for row in rows]


def as_parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def csv_bytes(table: pa.Table) -> bytes:
    return as_csv(table).encode()


def as_json(table: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()


@pytest.mark.parametrize(
    ("layout", "form"),
    [(name, as_parquet) for name in NAMES] + [("Dune", csv_bytes), ("Flipside", as_json)],
)
def test_one_table_with_the_senders_needs_no_transactions(pipe, joined, expected, layout, form):
    pipe(form(joined.rename_columns(NAMES[layout].split())))
    store = imported("-")
    assert rows_of(store) == without_nonce(expected)
    assert any("without nonce: unknown" in note for note in store.facts["notes"])
    assert not (store.folder / ".stdin").exists()


@pytest.mark.parametrize("name", ["tokens.transfers.csv", "tokens/transfers.csv"])
def test_dunes_transfers_may_have_dunes_name(tmp_path, joined, expected, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(csv_bytes(joined.rename_columns(NAMES["Dune's tokens.transfers"].split())))
    assert rows_of(imported(tmp_path)) == without_nonce(expected)


def test_the_columns_of_a_single_file_can_be_named(tmp_path, joined, expected):
    pq.write_table(joined.rename_columns(list("abcdefghijk")), tmp_path / "rows.parquet")
    ours = ("tx_hash", "block_number", "log_index", "token_address", "from_address",
            "to_address", "amount", "tx_from", "tx_to", "tx_index", "block_timestamp")  # fmt: skip
    names = dict(zip(ours, "abcdefghijk", strict=True))
    store = imported(tmp_path / "rows.parquet", columns=names, slice_transfers=100)
    assert rows_of(store) == without_nonce(expected)


def test_a_tar_archive_is_a_folder(pipe, etl, expected):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(etl, "export")
    pipe(content.getvalue())
    assert rows_of(imported("-")) == expected


def test_a_stream_of_ethereum_etl_holds_all_tables(pipe, etl, expected):
    lines = [{"type": "contract", "address": "0x1"}]
    for kind in ("transaction", "token_transfer"):
        rows = pq.read_table(etl / f"{kind}s.parquet").to_pylist()
        lines += [{"type": kind, **row} for row in rows]
    lines.sort(key=lambda line: line.get("block_number", 0))
    pipe("".join(json.dumps(line) + "\n" for line in lines).encode())
    store = imported("-")
    assert rows_of(store) == expected
    assert list(store.facts["left_out"]) == ["contracts.jsonl"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "^standard input: no parquet, CSV or JSON file"),
        (b"\0\1\2", "^standard input: no parquet"),
        (b'{"type": "log"}\n{"type": "x"}\n', "^standard input: line 2 is no item"),
        (b'{"type": "log"}\nnonsense\n', "^standard input: line 2 is no item"),
        (b"PAR1 and no more", "^standard input: truncated"),
    ],
)
def test_what_cannot_be_read_is_told_by_the_pipe(pipe, content, said):
    pipe(content)
    with pytest.raises(TableError, match=said):
        imported("-")


def test_transfers_without_senders_ask_for_them(pipe, joined):
    pipe(as_parquet(joined.drop_columns("evt_tx_from")))
    with pytest.raises(TableError, match=r"^standard input: contains no transactions \(Dune\)"):
        imported("-")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("evt_tx_from", "0x" + "1" * 40),
        ("evt_tx_index", 77),
        ("evt_block_number", 10**6),
        ("evt_tx_to", None),
    ],
)
def test_rows_of_a_transaction_that_differ_are_refused(tmp_path, joined, column, value):
    hashes = joined["evt_tx_hash"].to_pylist()
    row = next(row for row in range(1, len(hashes)) if hashes[row] == hashes[row - 1]
               and joined["evt_tx_to"][row].as_py())  # fmt: skip
    values = joined[column].to_pylist()
    values[row] = value
    at = joined.column_names.index(column)
    table = joined.set_column(at, column, pa.array(values))
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(TableError, match=f"{hashes[row]} is there twice with another"):
        imported(tmp_path)


@pytest.mark.parametrize("amount", ["TokenValue", "Quantity", "Value_IN(ETH)"])
def test_the_csv_of_etherscan_is_refused_by_name_column_and_remedy(tmp_path, amount):
    names = ["Transaction Hash", "Blockno", "UnixTimestamp", "DateTime (UTC)", "From", "To",
             amount, "USDValueDayOfTx", "ContractAddress", "TokenName", "TokenSymbol"]  # fmt: skip
    row = ["0x" + "a" * 64, "1", "1", "2023-05-01", "0x1", "0x2", "1,234.5", "N/A", "0x3", "", ""]
    with (tmp_path / "export-address-token.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, row])
    with pytest.raises(TableError) as refused:
        imported(tmp_path)
    for part in ("export-address-token.csv", f"the column {amount} ", "npm run record"):
        assert part in str(refused.value)


def test_the_csv_of_etherscan_beside_an_export_is_left_out(tmp_path, joined, expected):
    (tmp_path / "rows.csv").write_text(as_csv(joined))
    (tmp_path / "scan.csv").write_text("Transaction Hash,Blockno,From,To,TokenValue\n0x,1,a,b,2\n")
    store = imported(tmp_path)
    assert rows_of(store) == without_nonce(expected)
    assert store.facts["left_out"] == {"scan.csv": "Etherscan's, not exact"}


def test_an_archive_that_unpacks_to_no_end_is_refused(
    pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.files._MIN_BOMB_BYTES", 2**20)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("transactions.csv")
        member.size = 8 * 2**20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    pipe(file.getvalue())
    with pytest.raises(TableError, match="standard input: unpacks to more than 100 times its"):
        import_history("-", tmp_path, ImportOptions(), lambda _: lambda _: None)
    assert not list(tmp_path.rglob("transactions.csv"))
