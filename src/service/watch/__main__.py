"""`npm run watch`: follows a node's head without Forta, stores decisions, and notifies.

Exit codes: 0 stopped normally, 1 failed, 2 wrong options or settings.
"""

import sys

from src import cli

_DESCRIPTION = "Follow a chain's head: decide on every transaction, store decisions, notify."

_EPILOG = """\
Actions from NOTIFY_FROM on are sent to NOTIFY_URLS (Apprise: Slack, Telegram, Discord, e-mail ...)
and to WEBHOOK_URLS, signed with WEBHOOK_SECRET. docs/service.md lists all settings.

examples:
  JSON_RPC_URL=http://127.0.0.1:8545 npm run watch
  JSON_RPC_URL=... WATCH_ACCOUNTS=0x... npm run watch -- --pending
  JSON_RPC_URL=... NOTIFY_URLS=tgram://TOKEN/CHAT npm run watch -- --from-block 20000000

exit codes: 0 stopped normally, 1 failed, 2 wrong options or settings.
"""


@cli.options("watch", _DESCRIPTION, _EPILOG, run="src.service.watch.run", failure=cli.WRONG_USAGE)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--from-block",
        type=cli.natural,
        metavar="N",
        help="first block on the first start (default: the head); later starts resume",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="catch up with the head, send due notifications, and exit",
    )
    parser.add_argument(
        "--pending",
        action="store_true",
        help="also screen pending transactions of watched accounts and calls of new contracts",
    )
    parser.require(
        "--pending follows the node until stopped: leave --once out",
        lambda o: not (o.once and o.pending),
    )


if __name__ == "__main__":
    sys.exit(main())
