"""Train the model: `npm run train`. Writes a model bundle from a data set, reproducibly."""

import sys

from src import cli
from src.datasets import location
from src.settings import PROJECT_ROOT

_DESCRIPTION = """\
Train the Isolation Forest on recorded mainnet transactions and write the model bundle: the model
file, its manifest, and the list of its training blocks. The same data give the same bytes.
"""

_EPILOG = """\
DIR is a folder with transactions.parquet and transfers.parquet, or a recording:
  export JSON_RPC_URL=http://127.0.0.1:8545
  npm run collect -- --blocks docs/model/training_manifest.csv --out DIR
  npm run train -- --data DIR

exit codes: 0 trained, 1 the data is unusable, 2 wrong usage.
"""


@cli.options("train", _DESCRIPTION, _EPILOG, run="src.training.run")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    location.add_data(parser)
    parser.common("--out", default=str(PROJECT_ROOT), help="for the bundle (the project)")
    parser.common("--created-at", "--jobs")


if __name__ == "__main__":
    sys.exit(main())
