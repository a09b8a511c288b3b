"""What every detector of the policy finds and what it costs: `npm run evaluate:rules`."""

import sys

from src import cli
from src.datasets import location

_DESCRIPTION = """\
Judge ordinary transactions, known exploits and recorded address poisoning with the detectors of a
policy, one after the other and together, and count what the informational ones name, also of
replayed and rewritten exploits. Writes rules.md and rules.json.
"""

_EPILOG = """\
example:
  npm run evaluate:rules -- --data DIR --policy policy.yaml
  npm run evaluate:rules -- --data DIR --robustness evasions/exploits --robustness evasions/replays

exit codes: 0 evaluated, 1 the data or the policy cannot be used, 2 wrong usage.
"""


@cli.options("evaluate:rules", _DESCRIPTION, _EPILOG, run="src.training.evaluation.rules")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    location.add_data(parser)
    add(
        "--policy",
        type=cli.path,
        metavar="FILE",
        help="(the setting POLICY_PATH, else policy.yaml)",
    )
    location.add_unseen(parser)
    parser.common("--out", default="evaluation", help="(evaluation)")


if __name__ == "__main__":
    sys.exit(main())
