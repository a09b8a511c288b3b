"""`npm run guard`: a JSON-RPC endpoint in front of a node that screens what is sent.

Exit codes: 0 stopped normally, 1 failed, 2 wrong options or settings.
"""

import argparse
import sys

from src import cli

_DESCRIPTION = """\
A drop-in JSON-RPC endpoint (HTTP and WebSocket) in front of a node. Everything passes through;
transactions are simulated first, and what the policy blocks is refused.
"""

_EPILOG = """\
Start with --mode observe, which refuses nothing and shows what enforcing would do. Notifications,
keys and limits are settings: docs/screening.md.

examples:
  npm run guard -- --upstream http://127.0.0.1:8545 --mode observe --on-unknown pass
  npm run guard -- --upstream http://127.0.0.1:8545 --on-unknown refuse --hold-review

exit codes: 0 stopped normally, 1 failed, 2 wrong options or settings.
"""

_DEFAULT_PORT = 8547
_DEFAULT_SECONDS = 2.0


@cli.options("guard", _DESCRIPTION, _EPILOG, run="src.service.guard.run", failure=cli.WRONG_USAGE)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--upstream",
        type=cli.http_url,
        metavar="URL",
        help="the node (JSON_RPC_URL); simulations use JSON_RPC_URL if it is set",
    )
    parser.add_argument(
        "--upstream-ws",
        type=_socket_url,
        metavar="URL",
        help="the node's WebSocket (default: the same address)",
    )
    parser.add_argument(
        "--mode",
        choices=("enforce", "observe"),
        default="enforce",
        help="refuse what is blocked, or only record it (enforce)",
    )
    parser.add_argument(
        "--on-unknown",
        choices=("pass", "refuse"),
        required=True,
        help="what happens to a transaction that could not be screened; there is no default",
    )
    parser.add_argument(
        "--limit-seconds",
        type=cli.number(0.01, 60),
        default=_DEFAULT_SECONDS,
        metavar="S",
        help=f"time limit of a screening, after which it is unknown ({_DEFAULT_SECONDS:g})",
    )
    parser.add_argument(
        "--hold-review", action="store_true", help="REVIEW waits for a person instead of passing"
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        type=_method,
        metavar="METHOD",
        help="a further JSON-RPC method, or a prefix such as 'arb_*'; repeatable",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port",
        type=cli.port,
        default=_DEFAULT_PORT,
        metavar="N",
        help=f"port ({_DEFAULT_PORT})",
    )


def _socket_url(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme not in {"ws", "wss"} or not rest or rest.startswith("/"):
        raise argparse.ArgumentTypeError("the value is not a ws:// or wss:// URL")
    return text


def _method(text: str) -> str:
    from src.service.guard.methods import UNSCREENED  # noqa: PLC0415  small

    if text in UNSCREENED:
        raise argparse.ArgumentTypeError(
            f"{text} sends what the guard cannot read; sign the transaction and send it raw"
        )
    name = text.removesuffix("*")
    if not name.replace("_", "").isalnum() or not name.isascii() or "_" not in name:
        raise argparse.ArgumentTypeError("a method is a name such as eth_call, or a prefix: arb_*")
    return text


if __name__ == "__main__":
    sys.exit(main())
