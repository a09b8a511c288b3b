"""The options of commands that say where the training data lie, and what they mean."""

import argparse
from pathlib import Path

from src import cli
from src.chain.recording.dataset import TRANSACTIONS_FILE, TRANSFERS_FILE, is_dataset
from src.datasets.columns import Columns
from src.settings import PROJECT_ROOT

COLLECTED = PROJECT_ROOT / "data" / "training"
"""Default output folder of `npm run collect`."""

EXPLOITS_FILE = "exploit_transactions.csv.gz"
EXPLOIT_TRANSFERS_FILE = "exploit_transfers.csv.gz"
GOLDEN_CASES_FILE = "golden_cases.csv"
DATA_SET_FILES = (
    TRANSACTIONS_FILE,
    TRANSFERS_FILE,
    EXPLOITS_FILE,
    EXPLOIT_TRANSFERS_FILE,
    GOLDEN_CASES_FILE,
)
"""A data set in a folder; all but the first two may be missing."""

NO_DATA = (
    "no data: collect the blocks of the shipped model from a node with `JSON_RPC_URL=... npm run "
    "collect -- --blocks docs/model/training_manifest.csv`, or pass a folder with --data DIR"
)


def default_folder() -> Path | None:
    """The collected data set, else the shared one next to the checkout, else None."""
    folders = (COLLECTED, PROJECT_ROOT.parent / "shared" / "data")
    return next((folder for folder in folders if is_dataset(folder)), None)


def data_set(text: str) -> Path:
    """A folder of a data set, or its s3:// URL, which is downloaded; raises DownloadError."""
    if "://" not in text:
        return cli.path(text)
    from src.downloads import local_folder  # noqa: PLC0415  imports an HTTP client

    return local_folder(text, DATA_SET_FILES)


def add_data(parser: cli.Parser) -> None:
    """Add `--data`, see `default_folder`; without any data it says where to get them."""
    parser.add_argument(
        "--data",
        type=data_set,
        metavar="DIR",
        default=default_folder(),
        help="the data set, a folder or s3://bucket/prefix (data/training, else ../shared/data)",
    )
    parser.require(NO_DATA, lambda options: options.data is not None)


def add_unseen(parser: cli.Parser) -> None:
    """Add the options for data that no model is fitted on, besides those of `add_data`."""
    add = parser.add_argument
    add(
        "--replays",
        type=cli.path,
        metavar="DIR",
        help="exploit replays (data-replays beside the data set, if it is there)",
    )
    add(
        "--blocks",
        type=cli.path,
        metavar="DIR",
        help="whole blocks that no model is fitted on (data-blocks beside the data set)",
    )
    add(
        "--robustness",
        type=cli.path,
        action="append",
        default=[],
        metavar="DIR",
        help="attacks rewritten to evade; may be repeated",
    )


def add_columns(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add the options that say what a labelled table's columns mean, for `columns`."""
    add = parser.add_argument
    add("--label", metavar="COLUMN", required=required, help="the column to predict, 0 or 1")
    add("--positive", metavar="VALUE", help="the label's value that means fraud, if not 1")
    add("--ignore", metavar="COLUMN", nargs="+", default=[], help="columns that are no inputs")
    add("--group", metavar="COLUMN", help="rows with the same value stay on one side of every "
        "split (an account, a block)")  # fmt: skip


def columns(options: argparse.Namespace) -> Columns | None:
    """What `add_columns` was given; None without a label.

    Raises:
        CommandError: the other options are given without a label, and would have no effect.
    """
    if options.label is None:
        if options.positive is not None or options.ignore or options.group is not None:
            raise cli.CommandError(
                "--positive, --ignore and --group need --label", exit_code=cli.WRONG_USAGE
            )
        return None
    return Columns(options.label, tuple(options.ignore), options.group, options.positive)
