"""`npm run report -- 0xHASH`: one transaction as one HTML file that needs nothing else.

Exit codes: 0 written, 1 the transaction cannot be had, 2 wrong options or settings.
"""

import argparse
import base64
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from src.chain.errors import SourceError
from src.chain.http import is_http_url
from src.detection.errors import ModelError
from src.detection.policy import PolicyError
from src.service.database.engine import DatabaseError
from src.service.engine import Service
from src.service.problems import Problem
from src.service.settings import load_service_settings
from src.service.web import transactions
from src.service.web.rendering import STATIC, environment, explorer_of
from src.settings import SettingsError, load_settings
from src.utils.logger import log_to_stderr

_EPILOG = """\
What the service's database knows is taken from there; the rest is read from the node and stored.
Without a node (JSON_RPC_URL) it looks at the embedded demo's blocks. A recording is a node too:
serve it with `npm run replay` and name its address with --node.

examples:
  npm run report -- 0xHASH
  npm run report -- 0xHASH --node http://127.0.0.1:8545 --out report.html
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    log_to_stderr()
    try:
        tx_hash = transactions.checked_hash(options.hash)
        common = load_settings()
        if options.node:
            common = replace(common, json_rpc_url=options.node)
        service = Service.open(load_service_settings(), common)
    except Problem as problem:
        return _fail(2, problem.detail)
    except (SettingsError, DatabaseError, ModelError, PolicyError, SourceError) as error:
        return _fail(2, str(error))
    try:
        content = render(service, tx_hash)
    except Problem as problem:
        return _fail(1, problem.detail)
    finally:
        service.close()
    out = options.out or Path(f"transaction-{tx_hash[:10]}.html")
    try:
        out.write_text(content, encoding="utf-8")
    except OSError as error:
        return _fail(1, f"{out}: {error.strerror}; choose another file with --out")
    sys.stdout.write(f"{out}\n")
    return 0


def render(service: Service, tx_hash: str) -> str:
    """The report as HTML. Raises Problem where the transaction cannot be had."""
    values = transactions.read(service, tx_hash)
    # As it is parsed: the hash in the policy is of the very text between the tags.
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        environment()
        .get_template("report.html")
        .render(
            view=values["view"],
            chain_id=service.chain_id,
            explorer=explorer_of(service.chain_id, is_demo=service.is_demo),
            style=Markup(style),  # noqa: S704  our own file
            style_hash=f"sha256-{digest}",
        )
    )


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"report: {message}\n")
    return code


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="npm run report --",
        description="Write what is known of a transaction as one self-contained HTML file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("hash", help="the transaction's hash")
    parser.add_argument("--node", type=_url, metavar="URL", help="JSON-RPC to read it from")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (by the hash)")
    return parser.parse_args(arguments)


def _url(text: str) -> str:
    if not is_http_url(text):
        raise argparse.ArgumentTypeError("an http:// or https:// URL")
    return text


if __name__ == "__main__":
    sys.exit(main())
