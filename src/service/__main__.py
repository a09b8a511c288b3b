"""`npm run serve`: the analysis service, several workers behind one port.

Exit codes: 0 stopped normally, 1 a worker could not start or the database's file was deleted,
2 wrong options or settings.
"""

import sys

from src import cli
from src.service.settings import MAX_WORKERS

_EPILOG = """\
Without a node (JSON_RPC_URL) it serves recorded blocks of a local chain as demo data. Options
override settings of the environment, which docs/service.md lists.

examples:
  npm run serve
  JSON_RPC_URL=http://127.0.0.1:8545 npm run serve -- --workers 4
  SERVICE_API_KEYS=alice:$(openssl rand -hex 24) npm run serve -- --host 0.0.0.0

exit codes: 0 stopped normally, 1 a worker could not start or the database's file was deleted,
2 wrong options or settings.
"""


@cli.options(
    "serve",
    "The analysis service: API, web pages, database.",
    _EPILOG,
    run="src.service.http.server",
    failure=cli.WRONG_USAGE,
)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=cli.port, metavar="N", help="port (8080)")
    parser.add_argument(
        "--workers", type=cli.whole(1, MAX_WORKERS), metavar="N", help="processes (2)"
    )
    parser.add_argument(
        "--check", action="store_true", help="check settings, database, model and policy, and exit"
    )


if __name__ == "__main__":
    sys.exit(main())
