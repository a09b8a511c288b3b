"""One transaction as one self-contained HTML file."""

import argparse
import base64
import hashlib
import sys
from dataclasses import replace

from markupsafe import Markup

from src import cli
from src.files import write_file
from src.service.context import Service
from src.service.http.problems import Problem
from src.service.settings import load_common_settings, load_service_settings
from src.service.web import transactions
from src.service.web.rendering import STATIC, environment, explorer_of
from src.utils.logger import log_to_stderr


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    log_to_stderr()
    common = load_common_settings()
    if options.node:
        common = replace(common, json_rpc_url=options.node)
    try:
        tx_hash = transactions.checked_hash(options.hash)
    except Problem as problem:
        raise cli.CommandError(problem.detail) from None
    out = options.out or cli.output_file(f"transaction-{tx_hash[:10]}.html")
    service = Service.open(load_service_settings(), common)
    try:
        content = render(service, tx_hash)
    except Problem as problem:
        raise cli.CommandError(problem.detail, exit_code=1) from None
    finally:
        service.close()
    write_file(out, content.encode())
    sys.stdout.write(f"{out}\n")
    return 0


def render(service: Service, tx_hash: str) -> str:
    """The report as HTML. Raises Problem if the transaction is unavailable."""
    values = transactions.read(service, tx_hash)
    # Exactly as parsed: the hash in the CSP is of the text between the tags.
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        environment(service.names)
        .get_template("report.html")
        .render(
            view=values["view"],
            explorer=explorer_of(service.chain_id, is_demo=service.is_demo),
            style=Markup(style),  # noqa: S704  our own file
            style_hash=f"sha256-{digest}",
        )
    )
