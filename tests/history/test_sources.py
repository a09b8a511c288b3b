"""Files in any form are read, or refused by name; none that is needed is left out in silence."""

import argparse
import bz2
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.datasets.tables import TableError
from src.history.__main__ import columns, memory
from src.history.importing import ImportOptions, import_history
from tests.history.imports import Tables, as_csv, changed, imported, rows_of, write
from tests.support.object_store import BUCKET, use_object_store

NAMES = ("transactions", "token_transfers")


def write_text(folder: Path, tables: Tables, form: Callable[[pa.Table], str], suffix: str) -> Path:
    for name, table in zip(NAMES, tables, strict=True):
        (folder / f"{name}{suffix}").write_text(form(table), encoding="utf-8")
    return folder


def test_json_may_be_an_array(tmp_path, tables, expected):
    write_text(tmp_path, tables, lambda t: json.dumps(t.to_pylist(), indent=1), ".json")
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
def test_csv_without_a_suffix_may_have_any_delimiter(tmp_path, tables, expected, delimiter, mark):
    write_text(tmp_path, tables, lambda t: mark + as_csv(t, delimiter), "")
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize("blank", ["", "\\N", "NULL"])
def test_csv_may_write_what_is_unknown_as_databases_do(tmp_path, tables, blank):
    nonces = ["7", *[blank] * (len(tables[0]) - 1)]
    write_text(tmp_path, (changed(tables[0], nonce=pa.array(nonces)), tables[1]), as_csv, ".csv")
    assert {row["nonce"] for row in rows_of(imported(tmp_path))} == {7, None}


def test_csv_files_of_a_table_may_have_different_delimiters(tmp_path, tables, expected):
    write_text(tmp_path, tables, as_csv, ".csv")
    half = len(tables[1]) // 2
    (tmp_path / "token_transfers.csv").write_text(as_csv(tables[1].slice(0, half)))
    (tmp_path / "token_transfers-1.csv").write_text(as_csv(tables[1].slice(half), ";"))
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize("name", ["{}.csv", "{}"], ids=["suffix", "none"])
def test_zstd_is_known_by_content(tmp_path, tables, expected, name):
    for table, rows in zip(NAMES, tables, strict=True):
        with pa.CompressedOutputStream(str(tmp_path / name.format(table)), "zstd") as file:
            file.write(as_csv(rows).encode())
    assert rows_of(imported(tmp_path)) == expected


def test_columns_may_have_spaces(tmp_path, tables, expected):
    tables = tuple(
        t.rename_columns([name.replace("_", " ").title() for name in t.column_names])
        for t in tables
    )
    assert rows_of(imported(write(tmp_path, tables))) == expected


@pytest.mark.parametrize("dtype", ["object", "float64"])
def test_files_without_rows_may_stand_beside_full_ones(tmp_path, tables, expected, dtype):
    write(tmp_path, tables)
    for name, table in zip(NAMES, tables, strict=True):
        empty = pd.DataFrame(columns=table.column_names, dtype=dtype)
        empty.to_parquet(tmp_path / f"{name}-0.parquet")
    store = imported(tmp_path)
    assert rows_of(store) == expected
    assert set(store.facts["left_out"].values()) == {"has no rows"}


def test_an_export_may_have_no_transfers(tmp_path, tables):
    pq.write_table(tables[0], tmp_path / "transactions.parquet")
    empty = pd.DataFrame(columns=tables[1].column_names)
    empty.to_parquet(tmp_path / "token_transfers.parquet")
    assert rows_of(imported(tmp_path)) == []


def test_files_of_a_table_may_have_numbers_of_different_widths(tmp_path, tables, expected):
    nonces = tables[0]["nonce"].to_pylist()
    first = changed(tables[0], nonce=pa.array(nonces, pa.uint8())).slice(0, 9)
    rest = changed(tables[0], nonce=pa.array([70_000] * len(nonces), pa.uint32())).slice(9)
    write(tmp_path, (first, tables[1]))
    pq.write_table(rest, tmp_path / "transactions_1.parquet")
    found = {row["tx_hash"]: row["nonce"] for row in rows_of(imported(tmp_path))}
    early = {bytes.fromhex(text[2:]): nonce for text, nonce in
             zip(first["hash"].to_pylist(), nonces, strict=False)}  # fmt: skip
    assert found == {row["tx_hash"]: early.get(row["tx_hash"], 70_000) for row in expected}


@pytest.mark.parametrize("suffix", [".csv.bz2", ".csv.xz", ".parquet.gz", ".csv.zip", ".avro"])
def test_a_packed_file_of_a_table_is_refused_beside_others(tmp_path, tables, suffix):
    write(tmp_path, tables)
    (tmp_path / f"token_transfers-1{suffix}").write_bytes(bz2.compress(b"rows"))
    with pytest.raises(TableError, match=r"token_transfers-1\..* is not read: unpack"):
        imported(tmp_path)


@pytest.mark.parametrize("kind", ["csv.gz", "csv.zst", "jsonl.gz", "parquet"])
def test_a_file_that_unpacks_to_no_end_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("src.files._MIN_BOMB_BYTES", 2**20)
    path = tmp_path / f"token_transfers.{kind}"
    text = (b'{"tx_hash":"0x"}\n' if "json" in kind else b"tx_hash,a,b,c,d\n") * 10**6
    if kind == "parquet":
        column = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 10**6), ["0x"])
        pq.write_table(pa.table({"tx_hash": column}), path)
    else:
        codec = pa.Codec("zstd" if kind.endswith("zst") else "gzip")
        path.write_bytes(codec.compress(text, asbytes=True))
    with pytest.raises(TableError, match=f"{path.name}: unpacks to more than 100 times its"):
        imported(tmp_path)


def test_an_archive_alone_is_named(tmp_path):
    (tmp_path / "export.zip").write_bytes(b"PK")
    with pytest.raises(TableError, match=r"export\.zip \(\.zip is not read: unpack it"):
        imported(tmp_path)


def test_a_damaged_file_of_another_table_is_left_out(tmp_path, tables, expected):
    write_text(tmp_path, tables, as_csv, ".csv")
    (tmp_path / "tokens.csv").write_bytes(b'address,symbol\n0x1,"odd\n0x2,\xff\xfe\n')
    store = imported(tmp_path)
    assert rows_of(store) == expected
    assert list(store.facts["left_out"]) == ["tokens.csv"]


def test_json_of_a_table_that_is_cut_off_is_refused(tmp_path, tables):
    write_text(tmp_path, tables, lambda t: t.to_pandas().to_json(orient="records"), ".json")
    lines = tables[1].to_pandas().to_json(orient="records", lines=True)
    (tmp_path / "token_transfers-1.jsonl").write_text(lines[:-20])
    with pytest.raises(TableError, match=r"token_transfers-1\.jsonl: truncated"):
        imported(tmp_path)


def test_the_message_of_an_engine_is_cut(tmp_path, tables):
    write_text(tmp_path, tables, as_csv, ".csv")
    (tmp_path / "transactions.csv").write_text(as_csv(tables[0]), encoding="utf-16")
    with pytest.raises(TableError, match=r"transactions\.csv: .*UTF-8") as refused:
        imported(tmp_path)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("url", "said"), [("gs://bucket/x", "install gcsfs"), ("nonsense://x", "Protocol not known")]
)
def test_a_bucket_of_another_kind_is_refused_in_words(url, said):
    with pytest.raises(TableError, match=f"{url}: .*{said}"):
        imported(url)


@pytest.mark.parametrize(
    "url",
    ["https://host/x.parquet?sig=KEY", "s3://id:KEY@host/x", "http://u:KEY@host", "x://KEY@h/"],
)
def test_a_url_with_a_key_is_refused_and_not_repeated(url):
    with pytest.raises(TableError, match="download it, or name a bucket without keys") as refused:
        imported(url)
    assert "KEY" not in str(refused.value)


def test_a_bucket_that_does_not_answer_is_refused_in_words(monkeypatch):
    use_object_store(monkeypatch, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TableError, match=f"^s3://{BUCKET}/etl: cannot be listed: Could not conn"):
        imported(f"s3://{BUCKET}/etl")


def test_a_pipe_as_a_path_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TableError, match="pass its content to --data -"):
        imported(tmp_path / "pipe")


def test_a_store_within_its_source_is_refused(tmp_path, tables):
    write(tmp_path, tables)
    with pytest.raises(TableError, match=r"store: is in .*, whose files would be imported"):
        import_history(str(tmp_path), tmp_path / "store", ImportOptions(), lambda _: lambda _: None)
    assert not (tmp_path / "store").exists()


def test_gzip_is_known_by_content(tmp_path, tables, expected):
    for name, table in zip(NAMES, tables, strict=True):
        (tmp_path / f"{name}.csv").write_bytes(gzip.compress(as_csv(table).encode()))
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize("text", ["lots", "10", "-1", "0GB", "1e9"])
def test_memory_needs_a_unit(text):
    with pytest.raises(ValueError, match="unit"):
        _argument(memory, text)


@pytest.mark.parametrize("text", ["foo=bar", "transfer.amount=wad"])
def test_a_column_that_is_none_of_ours_is_wrong_usage(text):
    with pytest.raises(ValueError, match="is none of tx_hash"):
        _argument(columns, text)
    assert columns("transfers.amount=wad,tx_hash=h") == {"transfers.amount": "wad", "tx_hash": "h"}


def _argument(kind: Callable[[str], object], text: str) -> None:
    try:
        kind(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from error
