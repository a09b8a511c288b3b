"""What an export says of itself before it is imported: its chain, and what will be left out."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from src.chain.networks import chain_id_in
from src.chain.recording.format import Recording
from src.datasets.tables import FUNGIBLE, TableError
from src.history.layouts import CHAIN, RECORDING, column_name
from src.history.matching import Export, TableFiles
from src.history.sql import export_views, survey_of

_NO_CHAIN = (None, "", "0", "0x0", "0.0")
"""Of transactions that are signed for any chain."""


def survey(
    export: Export,
    query: Callable[[str], pa.Table],
    blocks: Sequence[int],
    asked: tuple[int, int] | None,
) -> tuple[dict[str, Any], list[str]]:
    """What the store's manifest says of the chain, and notes for the user.

    Args:
        export: the tables.
        query: asks the engine that has views of them.
        blocks: those with transfers, in order.
        asked: the first and the last block that are asked for; None for all.

    Raises:
        TableError: rows of several chains, or logs of fewer blocks than the transfers beside them.
    """
    chains = list(_named_chains(export))
    standards: Counter[str] = Counter()
    spans: dict[str, list[int]] = {"beside": [], "transactions": []}
    for view in export_views(export):
        table = view.name.rpartition("_")[0]
        if table not in spans and view.columns.keys().isdisjoint(("chain", "token_std")):
            continue
        for row in query(survey_of(view)).to_pylist():
            if row["chain"] not in _NO_CHAIN:
                chains.append((row["chain"], view.columns["chain"].name, view.files[0].path))
            standards[row["standard"]] += row["n"]
            if table in spans and row["low"] is not None:
                first, last = asked or (row["low"], row["high"])
                spans[table] += [max(row["low"], first), min(row["high"], last)]
    chain_id, chain = _one_chain(chains)
    notes = [
        f"{standards[name]:,} rows of the standard {name}: left out"
        for name in sorted(standards.keys() - set(FUNGIBLE))
    ]
    if chain and chain_id is None:
        notes.append(f"{chain}, which is no known chain: pass --chain with its id")
    if blocks:
        other = _fewer_blocks(export, export.beside, blocks, spans["beside"])
        if other:
            raise TableError(f"{other}: leave one of them out, or export both for the same blocks")
        other = _fewer_blocks(export, export.transactions, blocks, spans["transactions"])
        notes += [f"{other}: are there no transfers in the others?"] * bool(other)
    return {"chain_id": chain_id, "chain": chain}, notes


def _named_chains(export: Export) -> Iterator[tuple[str, str, str]]:
    """The chain that the name of a file or folder says, what says it, and the path."""
    if export.layout == RECORDING:
        yield str(Recording(Path(export.source)).chain_id), "the recording", export.source
    for file in export.files:
        for piece in file.name.split("/"):
            key, _, chain = piece.partition("=")
            if column_name(key) in CHAIN:
                yield chain.lower(), key, file.path
            chain, mark, _ = piece.partition("__")  # cryo's
            if mark and chain_id_in(chain) is not None:
                yield chain, "its name", file.path


def _one_chain(chains: list[tuple[str, str, str]]) -> tuple[int | None, str | None]:
    """The chain, where it is known, and what says it."""
    found: dict[str, dict[int | str, str]] = {"": {}}
    for text, name, path in chains:
        chain_id, said = chain_id_in(text), f"{path}: {name} says {text}"
        found.setdefault(name, {})[chain_id or text] = said
        if chain_id:  # what no record names is compared with its like alone
            found[""][chain_id] = said
    for names in found.values():
        if len(names) > 1:
            one, two, *_ = names.values()
            raise TableError(f"{one}, {two}: import one chain alone")
    for names in found.values():
        for chain, said in names.items():
            return (chain if isinstance(chain, int) else None), said
    return None, None


def _fewer_blocks(
    export: Export, other: TableFiles | None, blocks: Sequence[int], others: list[int]
) -> str:
    """Says that another table has blocks before or after those of the transfers, if it has."""
    moved = export.transfers
    if other is None or not others or blocks[0] <= min(others) <= max(others) <= blocks[-1]:
        return ""
    return (
        f"{moved.files[0][0].path}: the {moved.table.called} are of blocks {blocks[0]} to "
        f"{blocks[-1]}, the {other.table.called} of {min(others)} to {max(others)}"
    )
