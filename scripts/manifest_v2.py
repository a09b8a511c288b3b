"""Write the signed manifest of the bot on Forta's second SDK: `npm run manifest:v2`.

Forta's command line for v2 bots builds a manifest from `package.json`, signs the hash of its JSON
and uploads both to IPFS. It is not among the published packages, so this writes the same: what to
upload, and then to register under the bot's id.
"""

import argparse
import getpass
import json
import os
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from src import cli

_ROOT = Path(__file__).resolve().parent.parent
_COPIED = ("description", "longDescription", "version", "repository", "licenseUrl", "promoUrl")
_EPILOG = """\
The password of the key file is asked for, or taken from FORTA_PASSWORD.

example:
  npm run manifest:v2 -- --bot-id 0xYOUR-BOT-ID --key KEYFILE --documentation IPFS-CID \\
    --image IMAGE@sha256:DIGEST --chain 1 --chain base > manifest.json

exit codes: 0 written, 1 the key file or its password is wrong, 2 wrong usage.
"""


def manifest_of(
    package: dict[str, Any],
    *,
    owner: str,
    bot_id: str,
    chain_ids: list[int],
    documentation: str,
    image: str | None,
    now: datetime,
) -> dict[str, Any]:
    """The manifest; without an image that of a bot which its owner runs ("external")."""
    settings = package.get("chainSettings")
    fields = {
        "from": owner,
        "name": package.get("displayName", package["name"]),
        **{name: package[name] for name in _COPIED if name in package},
        "botId": bot_id,
        "botName": package["name"],
        "agentId": package["name"],
        "agentIdHash": bot_id,
        "timestamp": format_datetime(now.astimezone(UTC), usegmt=True),
        "imageReference": image,
        "documentation": documentation,
        "chainIds": chain_ids,
        "publishedFrom": f"{package['name']} {package['version']}",
        "external": image is None,
        "chainSettings": settings,
        "protocolVersion": 2,
    }
    return {name: value for name, value in fields.items() if value is not None}


def signed(manifest: dict[str, Any], key: bytes) -> str:
    """The document to upload: the manifest, and its signature over the hash of its JSON."""
    from eth_account import Account  # noqa: PLC0415  --help needs none of it
    from eth_utils.crypto import keccak  # noqa: PLC0415

    digest = keccak(text=_json(manifest))
    signature = Account.unsafe_sign_hash(digest, key).signature.to_0x_hex()
    return _json({"manifest": manifest, "signature": signature})


def _json(value: object) -> str:
    """As JavaScript's JSON.stringify writes it, since that text is what is hashed."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@cli.command("manifest:v2")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = cli.parser("manifest:v2", __doc__, _EPILOG)
    add = parser.add_argument
    add("--bot-id", required=True, type=_bot_id, metavar="ID", help="of the bot, 32 bytes in hex")
    add(
        "--key", required=True, type=cli.path, metavar="FILE", help="the owner's encrypted key file"
    )
    add("--documentation", required=True, metavar="CID", help="IPFS reference of README.md")
    add("--image", metavar="REF", help="image reference; without one you run the bot yourself")
    add(
        "--chain", action="append", type=cli.chain, metavar="CHAIN",
        help="name or id of a chain, several times for several ($chainIds of package.json)",
    )  # fmt: skip
    options = parser.parse(arguments)
    from eth_account import Account  # noqa: PLC0415

    try:
        encrypted = options.key.read_text(encoding="utf-8")
        password = os.environ.get("FORTA_PASSWORD") or getpass.getpass("password of the key file: ")
        key = bytes(Account.decrypt(encrypted, password))
    except EOFError:
        raise cli.CommandError("no password: type it, or set FORTA_PASSWORD") from None
    except (ValueError, KeyError, TypeError) as error:
        raise cli.CommandError(f"{options.key}: not a key file, or another password") from error
    package = json.loads((_ROOT / "package.json").read_text(encoding="utf-8"))
    manifest = manifest_of(
        package,
        owner=Account.from_key(key).address,
        bot_id=options.bot_id,
        chain_ids=options.chain or package["chainIds"],
        documentation=options.documentation,
        image=options.image,
        now=datetime.now(UTC),
    )
    sys.stdout.write(f"{signed(manifest, key)}\n")
    return 0


def _bot_id(text: str) -> str:
    digits = text.removeprefix("0x")
    if len(digits) != 64 or set(digits.lower()) - set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a bot id: 0x and 64 hexadecimal digits")
    return f"0x{digits.lower()}"


if __name__ == "__main__":
    sys.exit(main())
