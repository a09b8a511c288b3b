"""The model registry at the command line: `npm run models -- list | show | promote | ...`."""

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from src import cli
from src.registry.bundle import EVALUATION_FILE, MANIFEST_FILE
from src.registry.records import CHAMPION
from src.registry.registry import Registry
from src.registry.store import open_store
from src.settings import PROJECT_ROOT, model_public_key

_SHOWN = ("anomaly_threshold", "sklearn_version", "sha256")

_DESCRIPTION = "Manage the models in a folder or an S3 bucket."
_EPILOG = """\
MODEL is an id, the unique beginning of one, or champion, challenger, previous.

examples:
  npm run models -- add . --promote          add the bundle of this checkout as champion
  npm run models -- list
  npm run models -- diff champion challenger
  npm run models -- promote challenger --reason "fewer false alarms on routers"
  npm run models -- rollback
  npm run models -- pull champion --to models   then MODEL_PATH=models/current/isolation_forest.pkl

exit codes: 0 done, 1 refused or failed, 2 wrong usage.
"""


@cli.command("models")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    store = open_store(options.store)
    if options.run is not _add and not store.exists():
        raise cli.CommandError(
            f"no store at {store.name}; create one with `npm run models -- add . --promote`"
        )
    registry = Registry(store, public_key=model_public_key())
    sys.stdout.write(options.run(registry, options))
    return 0


def code_version() -> str:
    """The commit of this code: from `$GITHUB_SHA`, else from git, else "unknown"."""
    if os.environ.get("GITHUB_SHA"):
        return os.environ["GITHUB_SHA"]
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def differences(one: Any, other: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Differences between two JSON values: path, left and right value; None if missing."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted(one.keys() | other.keys()):
            where = f"{path}.{key}" if path else key
            found += differences(one.get(key), other.get(key), where)
        return found
    return [] if one == other else [(path, one, other)]


def _list(registry: Registry, _options: argparse.Namespace) -> str:
    step = registry.ledger()
    rows = [("id", "made", "transactions", "code", "alias")]
    for model_id in registry.ids():
        entry = registry.entry(model_id)
        rows.append(
            (
                entry.id,
                _date(entry.model_version),
                f"{entry.data.get('transactions', '?')}",
                entry.code_version[:12],
                ", ".join(step.aliases_of(model_id)),
            )
        )
    if len(rows) == 1:
        return f"{registry.store.name} holds no models yet: npm run models -- add . --promote\n"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )


def _show(registry: Registry, options: argparse.Namespace) -> str:
    entry = registry.entry(options.model)
    manifest = json.loads(registry.read(entry.id, MANIFEST_FILE))
    evaluation = None
    if EVALUATION_FILE in entry.files:
        evaluation = json.loads(registry.read(entry.id, EVALUATION_FILE))
    shown = {
        "id": entry.id,
        "aliases": registry.ledger().aliases_of(entry.id),
        "made": _date(entry.model_version),
        "registered": _date(entry.registered_at),
        "code_version": entry.code_version,
        **{name: manifest[name] for name in _SHOWN},
        "inputs": manifest["inputs"],
        "token_profiles": len(manifest["token_amounts"]),
        "training": manifest["training"],
        "files": dict(entry.files),
        "evaluation": evaluation,
    }
    return json.dumps(shown, indent=1) + "\n"


def _add(registry: Registry, options: argparse.Namespace) -> str:
    entry = registry.add(options.bundle, code_version=code_version())
    if not options.promote:
        registry.challenge(entry.id, reason="added by hand")
        return f"{entry.id} is the challenger; npm run models -- promote challenger\n"
    registry.promote(entry.id, reason="added by hand")
    return f"{entry.id} is the champion\n"


def _promote(registry: Registry, options: argparse.Namespace) -> str:
    step = registry.promote(options.model, reason=options.reason)
    return f"{step.champion} is the champion; before it: {step.previous or 'none'}\n"


def _rollback(registry: Registry, options: argparse.Namespace) -> str:
    step = registry.rollback(reason=options.reason)
    return f"{step.champion} is the champion again instead of {step.previous}\n"


def _diff(registry: Registry, options: argparse.Namespace) -> str:
    lines = []
    for name in (MANIFEST_FILE, EVALUATION_FILE):
        one, other = (
            json.loads(registry.read(entry.id, name)) if name in entry.files else {}
            for entry in (registry.entry(options.one), registry.entry(options.other))
        )
        for path, here, there in differences(one, other):
            lines.append(f"{name}: {path}: {_short(here)} -> {_short(there)}\n")
    return "".join(lines) or "no difference\n"


def _pull(registry: Registry, options: argparse.Namespace) -> str:
    path = registry.fetch(options.model, options.to)
    return f"{path} verified; MODEL_PATH={options.to / 'current' / path.name}\n"


def _history(registry: Registry, _options: argparse.Namespace) -> str:
    lines = [
        f"{step.number:>4}  {_date(step.at)}  {step.action:<9}  champion {step.champion}"
        f"{'  ' + step.reason if step.reason else ''}\n"
        for step in registry.history()
    ]
    return "".join(lines) or "no history yet\n"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("models", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "--store", metavar="URL", help="a folder or s3://bucket/prefix ($STORE_URL)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        return added

    command("list", _list, "list the complete models and their aliases")
    show = command("show", _show, "show a model: manifest, evaluation, data, code version")
    show.add_argument("model", nargs="?", default=CHAMPION, metavar="MODEL")
    add = command("add", _add, "add the bundle in a folder as challenger")
    add.add_argument("bundle", type=cli.path, metavar="DIR")
    add.add_argument("--promote", action="store_true", help="also make it the champion")
    promote = command("promote", _promote, "make a model the champion")
    promote.add_argument("model", nargs="?", default="challenger", metavar="MODEL")
    promote.add_argument("--reason", default="by hand", help="why, for the history")
    rollback = command("rollback", _rollback, "return to the previous champion")
    rollback.add_argument("--reason", default="by hand", help="why, for the history")
    diff = command("diff", _diff, "show the differences between two models")
    diff.add_argument("one", metavar="MODEL")
    diff.add_argument("other", metavar="MODEL")
    pull = command("pull", _pull, "download and verify a model, for MODEL_PATH")
    pull.add_argument("model", nargs="?", default=CHAMPION, metavar="MODEL")
    pull.add_argument("--to", type=cli.output_folder, required=True, metavar="DIR")
    command("history", _history, "list all promotions and rollbacks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
