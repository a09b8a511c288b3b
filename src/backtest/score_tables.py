"""Scores every transaction of two tables, slice by slice."""

import argparse
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from src.backtest.output.rows import INVALID, explanation
from src.backtest.scoring.scoring import Scorer
from src.backtest.scoring.transactions import batch_of
from src.backtest.workers import keep_freed_memory
from src.datasets.fixed_bytes import hex_column
from src.datasets.store import GENESIS, SCHEMA, Store, locked, read_slice
from src.datasets.tables import TableError, read_unknown_tokens
from src.decision.second_opinion import OpenedAttackModel, open_attack_model
from src.detection.assessment import EXPLAINED_INPUTS
from src.detection.attack.model import AttackModel
from src.detection.attack.reputation import score_table
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import ANOMALY, NORMAL, Model, load_model
from src.files import whole_file
from src.history import damage
from src.history.importing import Import, ImportOptions
from src.history.layouts import CHAIN
from src.history.matching import match
from src.history.sources import (
    INTEGER,
    Column,
    connect,
    identifier,
    list_files,
    parquet,
    quoted,
    scan,
)
from src.history.sql import digits
from src.settings import load_settings

_FORMS = {
    ".parquet": "FORMAT parquet",
    ".csv": "FORMAT csv, HEADER",
    ".csv.gz": "FORMAT csv, HEADER, COMPRESSION gzip",
}
_MEMORY = "300MB"
_REMEDY = "make room where temporary files go, or set TMPDIR to another folder"
_SLICE_TRANSFERS = 100_000
_NUMBER, _TIME = "number_of_the_row", "time_of_the_row"
_COLUMNS = {
    "transactions.block_number": _NUMBER, "block_timestamp": _TIME,
    "transfers.block_number": "none", "amount": "value_raw",
}  # fmt: skip
"""See `layouts.custom_tables`."""
_KEPT = {"tx_hash", "from_address", "to_address", "nonce", "tx_index", "block_hash", *CHAIN}
"""Of the transactions, beside the number of the row."""


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    keep_freed_memory()
    settings = load_settings()
    path = options.model or settings.model_path
    model = load_model(path, available_inputs=FEATURE_NAMES, public_key=settings.model_public_key)
    named = None if options.model else settings.attack_model_path
    attack = open_attack_model(named, path, model, settings.model_public_key)
    unknown = read_unknown_tokens(options.token_facts) if options.token_facts else frozenset()
    threshold = options.threshold
    if threshold is None:
        threshold = settings.anomaly_threshold
    if threshold is None:
        threshold = model.manifest.anomaly_threshold
    scorer = _TableScorer(Scorer(model, attack.model), attack, threshold, unknown, options.explain)
    started = time.perf_counter()
    scored = anomalies = 0
    with (
        tempfile.TemporaryDirectory(prefix="score-") as folder,
        connect(memory=_MEMORY, spill=Path(folder) / "spill", ordered=True) as engine,
    ):
        paths = (options.transactions, options.transfers)
        store, rows = _imported(*paths, Path(folder) / "store", engine)
        written = Path(folder) / "scores.parquet"
        schema = scorer.table(SCHEMA.empty_table()).schema
        with pq.ParquetWriter(written, schema) as writer:
            for part in store.slices:
                table = scorer.table(read_slice(store.path(part)))
                scored += table.num_rows
                anomalies += table["prediction"].to_pylist().count(ANOMALY)
                writer.write_table(table)
        form = next(form for end, form in _FORMS.items() if options.out.name.lower().endswith(end))
        with (
            whole_file(options.out) as unfinished,
            damage.explained(str(written), unfinished, _REMEDY),
        ):
            engine.sql(
                f"COPY (FROM {parquet([str(written)])}) TO {quoted(str(unfinished))} ({form})"
            )
    orphans = sum(part.orphans for part in store.slices)
    without = f"; {orphans:,} transfers of other transactions are ignored" if orphans else ""
    without += f"; no attack scores: {attack.problem}" if attack.problem else ""
    sys.stderr.write(
        f"{options.out}: {scored:,} transactions scored in {time.perf_counter() - started:.1f} s, "
        f"{anomalies:,} anomalies at threshold {threshold:g}; {rows - scored:,} without an ERC-20 "
        f"transfer are left out{without}.\n"
    )
    return 0


@dataclass(frozen=True, slots=True)
class _TableScorer:
    """Scores slices."""

    scorer: Scorer  # of both models
    attack: OpenedAttackModel  # the attack model, or why there is none
    threshold: float  # score from which a transaction is an anomaly
    unknown: Collection[str]  # tokens without a reputation
    explain: bool  # whether to add what weighs most

    def table(self, rows: pa.Table) -> pa.Table:
        """The columns of the command's output, for transactions of a store."""
        batch = batch_of(rows)
        scores = self.scorer.score(batch)
        unscored = np.isnan(scores.score)
        prediction = np.where(scores.score >= self.threshold, ANOMALY, NORMAL)
        columns: dict[str, Any] = {
            "tx_hash": hex_column(batch.tx_hash).cast(pa.string()),
            "anomaly_score": pa.array(scores.score, mask=unscored),
            "anomaly_percentile": pa.array(scores.percentile, mask=unscored),
            "prediction": pa.array(np.where(unscored, INVALID, prediction).tolist(), pa.string()),
        }
        model, attack = self.scorer.model, self.attack.model
        if self.explain:
            columns["model_explanations"] = _explanations(model, scores.features, unscored)
        if attack is not None:
            found = scores.attack
            if self.unknown or self.explain:
                told = score_table(attack, model, batch.transfers, unknown=self.unknown)
                found = told.scores
            columns["attack_score"] = pa.array(found, mask=unscored)
            columns["attack_percentile"] = pa.array(100 * found, mask=unscored)
            if self.explain:
                columns["attack_explanations"] = _explanations(attack, told.rows, unscored)
        return pa.table(columns)


def _explanations(
    model: Model | AttackModel, rows: NDArray[np.float64], unscored: NDArray[np.bool_]
) -> pa.Array:
    return pa.array(
        [
            None if gone else explanation(tuple(model.explain(row, EXPLAINED_INPUTS)))
            for row, gone in zip(rows, unscored, strict=True)
        ],
        pa.string(),
    )


def _imported(transactions: Path, transfers: Path, out: Path, engine: Any) -> tuple[Store, int]:
    """Import two tables that need not say their blocks, so that their order is kept.

    The blocks of the store are the rows of the first table, the first of those of a transaction.

    Returns:
        The store, and the number of transactions in the first table, each once; a row without a
        hash is one.

    Raises:
        TableError: a file lacks a column or holds a value that is none of its kind.
        OSError: the disk failed.
    """
    files = []
    for name, path in (("transactions", transactions), ("transfers", transfers)):
        if not path.is_file():
            problem = "a folder, not a file" if path.is_dir() else "no such file"
            raise TableError(f"{path}: {problem}")
        files.append(replace(list_files(str(path), engine)[0][0], name=name))
    sent, rows = files[0], 0
    if (key := sent.columns.get("tx_hash")) is not None:
        same, numbered = f"lower({digits(key)})", out.with_name("numbered.parquet")
        kept = ", ".join(identifier(c.name) for ours, c in sent.columns.items() if ours in _KEPT)
        counts = f"count(DISTINCT {same}) + count(*) - count({same}), count(*)"
        text = (
            f"SELECT {kept}, row_number() OVER () AS {_NUMBER}, {GENESIS} AS {_TIME} "
            f"FROM {scan([sent])}"
        )
        with damage.explained(str(transactions), numbered, _REMEDY):
            ((rows, every),) = engine.sql(f"SELECT {counts} FROM {scan([sent])}").fetchall()
            if rows < every:
                first = f"min({_NUMBER}) OVER (PARTITION BY {same})"
                text = f"SELECT * REPLACE ({first} AS {_NUMBER}) FROM ({text})"
            engine.sql(f"COPY ({text}) TO {quoted(str(numbered))}")  # once, not for each query
        added = {name: Column(name, INTEGER) for name in (_NUMBER, _TIME)}
        columns = {**sent.columns, **added}
        relation = parquet([str(numbered)])
        files[0] = replace(sent, columns=columns, relation=relation)
    export = match(str(transfers), files, {}, _COLUMNS)
    options = ImportOptions(workers=1, slice_transfers=_SLICE_TRANSFERS, remedy=_REMEDY)
    work = Import(export, out, options, engine, "")
    with locked(out, "import"):
        return work.run(lambda _: lambda _: None), rows
