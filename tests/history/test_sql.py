"""Logs in every spelling give the transfers; what has no topics, data or token is refused."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from src.datasets.tables import TableError
from tests.history.imports import as_logs, changed, imported, rows_of, write

NAMES = ("transactions.parquet", "logs.parquet")


def raw(topics: list[str]) -> list[bytes]:
    return [bytes.fromhex(text[2:].zfill(64)) for text in topics]


@pytest.mark.parametrize(
    ("topics", "kind"),
    [
        (raw, pa.list_(pa.binary())),
        (raw, pa.large_list(pa.binary(32))),
        (lambda topics: [*topics, *[None] * (4 - len(topics))], pa.list_(pa.string(), 4)),
        (lambda topics: [text[2:] for text in topics], pa.list_(pa.string())),
        (json.dumps, pa.string()),
        (lambda topics: "{" + ",".join(topics) + "}", pa.string()),
        (lambda topics: f"[{', '.join(topics)}]", pa.string()),
    ],
    ids=["bytes", "fixed bytes", "fixed list", "no 0x", "JSON", "Postgres", "repr"],
)
def test_topics_may_be_bytes_lists_or_text(tmp_path, tables, expected, topics, kind):
    logs = as_logs(tables[1], list)
    column = pa.array([topics(one) for one in logs["topics"].to_pylist()], kind)
    write(tmp_path, (tables[0], changed(logs, topics=column)), NAMES)
    assert rows_of(imported(tmp_path)) == expected


def escaped(topics: list[str]) -> str:
    return ",".join(text.replace("0x", "\\x") for text in topics)


@pytest.mark.parametrize(
    ("column", "spelt"),
    [
        ("topics", "|".join),
        ("topics", " ".join),
        ("topics", escaped),
        ("topics", lambda topics: [hex(int(text, 16)) for text in topics]),
        ("data", lambda data: data.replace("0x", "\\x")),
        ("data", lambda data: hex(int(data, 16) & 0xF) if data != "0x" else data),
        ("address", lambda address: "USDC"),
        ("address", lambda address: None),
        ("address", lambda address: "0x" + "0" * 24 + address[2:]),
    ],
)
def test_logs_that_cannot_be_told_are_refused(
    tmp_path, tables, column: str, spelt: Callable[[Any], Any]
):
    logs = as_logs(tables[1], list)
    values = [spelt(value) for value in logs[column].to_pylist()]
    write(tmp_path, (tables[0], changed(logs, **{column: pa.array(values)})), NAMES)
    with pytest.raises(TableError, match=rf"logs\.parquet: {column} is not .*--columns"):
        imported(tmp_path)


def test_a_blank_address_is_named(tmp_path, tables):
    blank = changed(tables[1], token_address=pa.array([""] * len(tables[1])))
    with pytest.raises(TableError, match=r"parquet: token_address is not an address: ''"):
        imported(write(tmp_path, (tables[0], blank)))
