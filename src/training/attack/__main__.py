"""Train the attack model: `npm run train:attack`. Labelled data in, model bundle out."""

import sys

from src import cli
from src.datasets import location
from src.settings import DEFAULT_MODEL_PATH, PROJECT_ROOT

_DESCRIPTION = """\
Train the attack model on recorded mainnet transactions and known attacks, calibrate it together
with the isolation forest, and write its bundle. The same data give the same bytes.
"""
_EPILOG = """\
DIR is the folder that the isolation forest was trained on; beside the transactions it lists known
attacks (exploit_transactions.csv.gz, exploit_transfers.csv.gz). A folder of replays has
replay_exploit_transactions.csv.gz and replay_exploit_transfers.csv.gz.

example:
  npm run train:attack -- --data data/mainnet --replays data/replays --out models/mine

exit codes: 0 trained, 1 the data or the forest cannot be used, 2 wrong usage.
"""


@cli.options("train:attack", _DESCRIPTION, _EPILOG, run="src.training.attack.train")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    location.add_data(parser)
    add("--replays", type=cli.path, action="append", default=[], metavar="DIR",
        help="a folder of exploit replays; may be repeated")  # fmt: skip
    add("--model", type=cli.model, metavar="FILE", default=DEFAULT_MODEL_PATH,
        help="the isolation forest to calibrate it with (the project's)")  # fmt: skip
    parser.common("--out", default=str(PROJECT_ROOT), help="for the bundle (the project)")
    parser.common("--created-at", "--jobs")


if __name__ == "__main__":
    sys.exit(main())
