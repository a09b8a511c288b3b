"""Where the training data lie on this machine."""

from pathlib import Path

from src.chain.recording.dataset import is_dataset
from src.settings import PROJECT_ROOT

COLLECTED = PROJECT_ROOT / "data" / "training"
"""Where `npm run collect` writes by default."""

NO_DATA = (
    "no data: collect the blocks of the shipped model from a node with `JSON_RPC_URL=... npm run "
    "collect -- --blocks docs/model/training_manifest.csv`, or name a folder with --data DIR"
)


def default_folder() -> Path | None:
    """What was collected, else the shared data set beside the checkout; None without either."""
    folders = (COLLECTED, PROJECT_ROOT.parent / "shared" / "data")
    return next((folder for folder in folders if is_dataset(folder)), None)
