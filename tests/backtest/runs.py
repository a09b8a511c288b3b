"""Run the backtest's command and read what it wrote."""

import pandas as pd
import pyarrow.parquet as pq

from src.backtest.__main__ import main
from src.decision.second_opinion import open_attack_model
from src.settings import PROJECT_ROOT

THRESHOLD = 0.6


def run(data, out, *more):
    arguments = ["--data", str(data), "--out", str(out), "--threshold", str(THRESHOLD)]
    return main([*arguments, "--workers", "2", *map(str, more)])


def rows_of(out, table="decisions"):
    paths = sorted((out / table).glob("day=*/*.parquet"))
    tables = [pq.ParquetFile(path).read().to_pandas() for path in paths]
    return pd.concat(tables).set_index("tx_hash") if tables else pd.DataFrame()


def content_of(out):
    names = [p for p in sorted(out.rglob("*")) if p.is_file() and ".lock" not in p.name]
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in names
        if p.relative_to(out).parts[0] != "journal"
    }


def attack_of(model):
    """The shipped attack model, as these tests use the shipped forest."""
    return open_attack_model(None, PROJECT_ROOT / "isolation_forest.pkl", model, None)
