"""Labelled token transfers as a table for `npm run train:fraud`: exploits against ordinary blocks.

One row a transaction, with the features that live handling computes, so that a model trained on it
can be the policy's supervised detector. What makes it honest:

- Most exploits are rebuilt from call frames, which show no mint and no burn. So mints and burns are
  left out of every transaction (`--view calls`), else the classifier learns how rows were recorded.
- The token amounts behind two of the features are those of *other* blocks for every background
  transaction: its own would make it look more ordinary than any exploit can.
- `group` holds the block of a background transaction. Exploits of one protocol, and exploits with
  the same transfer graph, are one group: a split by it never tests on runs of a known attack.

The isolation forest is never trained on any of this.
"""

import io
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src import cli
from src.datasets.tables import TransactionSet
from src.datasets.training_set import NO_DATA, default_folder, load_background
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.manifest import read_manifest
from src.files import write_file
from src.settings import PROJECT_ROOT, model_public_key
from src.training.evaluation.sets import call_view, clusters, load_exploits
from src.training.fit import fold_of_blocks, profile_tokens, select_rows
from src.training.hyperparameters import Hyperparameters
from src.training.reference_values import load_reference_values

LABEL = "exploit"
GROUP = "group"

_MODEL = PROJECT_ROOT / "isolation_forest.pkl"

_NAME = "train:fraud:dataset"
_DESCRIPTION = """\
Write the features of known exploits and of ordinary transactions as a labelled table.
"""
_EPILOG = """\
example:
  npm run train:fraud:dataset -- --data DIR --out labelled.csv.gz
then:
  npm run train:fraud -- --data TABLE --label exploit --group group --ignore tx_hash derivation

exit codes: 0 written, 1 the data cannot be used, 2 wrong usage.
"""


def labelled_features(
    background: TransactionSet,
    exploits: TransactionSet,
    profile: TokenProfile,
) -> pd.DataFrame:
    """The table: the features, `exploit` (0 or 1), `group`, `tx_hash`, `derivation`.

    Args:
        background: with `block_number`, `source` and `tx_hash` among its facts.
        exploits: with `protocol` and `derivation` among its facts.
        profile: token amounts as the live model knows them, for the exploits.
    """
    parts = [
        _part(
            _cross_fitted(background, Hyperparameters()),
            background,
            [f"block {number}" for number in background.facts["block_number"].tolist()],
            is_exploit=False,
        ),
        _part(
            feature_table(exploits.batch, profile),
            exploits,
            attack_groups(exploits),
            is_exploit=True,
        ),
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("tx_hash", kind="stable", ignore_index=True)


def attack_groups(exploits: TransactionSet) -> list[str]:
    """A name for each exploit, the same for those that share a protocol or a transfer graph."""
    protocols = (
        exploits.facts["protocol"].astype("string").fillna("").str.strip().str.lower().tolist()
    )
    graphs = clusters(exploits).tolist()
    group = {graph: graph for graph in graphs}
    first: dict[str, int] = {}
    for protocol, graph in zip(protocols, graphs, strict=True):
        known = first.setdefault(protocol, graph) if protocol else graph
        kept, merged = sorted((group[known], group[graph]))
        group = {graph: kept if name == merged else name for graph, name in group.items()}
    return [f"attack {group[graph]}" for graph in graphs]


def _cross_fitted(data: TransactionSet, parameters: Hyperparameters) -> NDArray[np.float64]:
    """Features with token amounts learnt from the blocks of other folds."""
    fold = fold_of_blocks(data, parameters.folds)
    table = np.zeros((len(data), len(FEATURE_NAMES)))
    for held_out in np.unique(fold).tolist():
        profile_rows, _ = select_rows(data, parameters, fold != held_out)
        profile = TokenProfile.from_amounts(
            profile_tokens(data, profile_rows, parameters), load_reference_values()
        )
        table[fold == held_out] = feature_table(data.batch, profile)[fold == held_out]
    return table


def _part(
    features: NDArray[np.float64], data: TransactionSet, groups: list[str], *, is_exploit: bool
) -> pd.DataFrame:
    table = pd.DataFrame(features, columns=list(FEATURE_NAMES))
    table[LABEL] = int(is_exploit)
    table[GROUP] = groups
    table["tx_hash"] = data.facts["tx_hash"].to_numpy()
    table["derivation"] = data.facts["derivation"].to_numpy() if is_exploit else "log"
    return table


@cli.command(_NAME)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = cli.parser(_NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--data", type=cli.path, metavar="DIR", default=default_folder(), help="the data set")
    add(
        "--out",
        type=cli.output_file,
        metavar="TABLE",
        required=True,
        help="a .parquet or .csv.gz file",
    )
    add(
        "--model", type=cli.path, metavar="FILE", default=_MODEL, help="whose token amounts to take"
    )
    add(
        "--view",
        choices=("calls", "logs"),
        default="calls",
        help="calls: leave out mints and burns, which most exploits' records cannot show (default)",
    )
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error(NO_DATA)
    if not options.out.name.endswith((".parquet", ".csv.gz", ".csv")):
        parser.error(f"{options.out}: name a .parquet, .csv or .csv.gz file")
    sys.stderr.write(f"{_NAME}: reading {options.data}\n")
    exploits = load_exploits(options.data)
    if exploits is None:
        raise ValueError(f"{options.data}: holds no exploit transfers")
    background = load_background(options.data)
    profile = TokenProfile.from_manifest(read_manifest(options.model, model_public_key()))
    if options.view == "calls":
        background, exploits = call_view(background), call_view(exploits)
    sys.stderr.write(f"{_NAME}: computing features\n")
    table = labelled_features(background, exploits, profile)
    write_file(options.out, _as_bytes(table, options.out.name))
    n_groups = table.groupby(LABEL)[GROUP].nunique()
    sys.stdout.write(
        f"{options.out}: {len(table):,} transactions, {int(table[LABEL].sum())} exploits of "
        f"{int(n_groups.get(1, 0))} groups, {int(n_groups.get(0, 0)):,} blocks.\n"
    )
    return 0


def _as_bytes(table: pd.DataFrame, name: str) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".parquet"):
        table.to_parquet(buffer, index=False)
    else:
        compression = {"method": "gzip", "mtime": 0} if name.endswith(".gz") else None
        table.to_csv(buffer, index=False, compression=compression, lineterminator="\n")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
