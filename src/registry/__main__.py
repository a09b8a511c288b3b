"""The registry at the command line: `npm run models -- list | show | promote | data | ...`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from src import cli
from src.chain.text import sanitise_text
from src.datasets import location
from src.registry.bundle import ATTACK_MANIFEST_FILE, EVALUATION_FILE, KINDS
from src.registry.records import ALIASES, CHAMPION
from src.registry.registry import BundleRefused, Registry, code_version
from src.registry.store import NO_STORE, STORE_VARIABLE, Store, open_store
from src.settings import model_public_key

_MAX_SHOWN = 200  # characters of a text
_SHOWN = ("anomaly_threshold", "classifier", "label", "threshold", "sklearn_version", "sha256")
_SHOWN_OF_ATTACK = ("model_version", "sha256", "inputs", "training")

_DESCRIPTION = "Manage the models and the data sets in a folder or an S3 bucket."
_EPILOG = """\
MODEL is an id, the unique beginning of one, or champion, challenger, previous. Each kind of model
has its own: forest (the isolation forest and the attack model beside it; attack is the same) and
fraud.

examples:
  npm run models -- add . --promote          add the bundle of this checkout as champion
  npm run models -- add fraud_model --kind fraud --promote
  npm run models -- list --kind fraud
  npm run models -- diff champion challenger
  npm run models -- promote challenger --reason "fewer false alarms on routers"
  npm run models -- rollback
  npm run models -- pull champion --to models   then MODEL_PATH=models/current/isolation_forest.pkl
  npm run models -- data add data/august
  npm run models -- data add creditcard.csv.gz --label Class
  npm run models -- data withdraw 3f2a --reason "wrong labels"

exit codes: 0 done, 1 refused or failed, 2 wrong usage.
"""


@cli.command("models")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    adds = options.run in (_add, _add_data)
    store = open_store(options.store, new=adds)
    is_new = adds and not store.holds_anything()
    sys.stdout.write(options.run(store, options))
    if is_new:
        sys.stdout.write(f"{store.name} is a new store\n")
    return 0


def differences(one: Any, other: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Differences between two JSON values: path, left and right value; None if missing."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted(one.keys() | other.keys()):
            where = f"{path}.{key}" if path else key
            found += differences(one.get(key), other.get(key), where)
        return found
    return [] if one == other else [(path, one, other)]


def _registry(store: Store, options: argparse.Namespace) -> Registry:
    return Registry(store, KINDS[options.kind], public_key=model_public_key())


def _list(store: Store, options: argparse.Namespace) -> str:
    registry = _registry(store, options)
    step = registry.ledger()
    rows = []
    for model_id in registry.ids():
        try:
            entry = registry.entry(model_id)
        except BundleRefused:  # damaged since it got its alias, which is listed below
            continue
        trained_on = entry.data.get("transactions", entry.data.get("rows", "?"))
        made, aliases = _date(entry.model_version), ", ".join(step.aliases_of(model_id))
        commit, *dirty = entry.code_version.split("-", 1)
        code = "-".join([commit[:12], *dirty])
        added = _date(entry.registered_at)
        rows.append((entry.id, made, added, f"{trained_on}", code, aliases))
    listed = {row[0] for row in rows}
    for alias in ALIASES:
        model_id = getattr(step, alias)
        if model_id is not None and model_id not in listed:
            rows.append((model_id, "cannot be used", "", "", "", alias))
    return (
        _table(("id", "made", "added", "trained on", "code", "alias"), rows)
        if rows
        else f"{store.name} holds no {options.kind} models yet: {registry.kind.first}\n"
    )


def _show(store: Store, options: argparse.Namespace) -> str:
    registry = _registry(store, options)
    entry = registry.entry(options.model)
    manifest, attack, evaluation = (
        json.loads(registry.read(entry.id, name)) if name in entry.files else {}
        for name in (registry.kind.manifest_file, ATTACK_MANIFEST_FILE, EVALUATION_FILE)
    )
    shown = {
        "id": entry.id,
        "kind": registry.kind.name,
        "aliases": registry.ledger().aliases_of(entry.id),
        "made": _date(entry.model_version),
        "registered": _date(entry.registered_at),
        "code_version": entry.code_version,
        **{name: manifest[name] for name in _SHOWN if name in manifest},
        "inputs": manifest["inputs"],
        "token_profiles": len(manifest.get("token_amounts", ())),
        "training": manifest["training"],
        "attack_model": {name: attack[name] for name in _SHOWN_OF_ATTACK} if attack else None,
        "files": dict(entry.files),
        "evaluation": evaluation or None,
    }
    return json.dumps(shown, indent=1) + "\n"


def _add(store: Store, options: argparse.Namespace) -> str:
    registry = _registry(store, options)
    entry = registry.add(options.bundle, code_version=code_version())
    kind = "" if options.kind == "forest" else f" --kind {options.kind}"
    if not options.promote:
        registry.challenge(entry.id, reason="added by hand")
        return f"{entry.id} is the challenger; npm run models -- promote challenger{kind}\n"
    registry.promote(entry.id, reason="added by hand")
    return f"{entry.id} is the champion\n"


def _promote(store: Store, options: argparse.Namespace) -> str:
    step = _registry(store, options).promote(options.model, reason=options.reason)
    return f"{step.champion} is the champion; before it: {step.previous or 'none'}\n"


def _rollback(store: Store, options: argparse.Namespace) -> str:
    step = _registry(store, options).rollback(reason=options.reason)
    return f"{step.champion} is the champion again instead of {step.previous}\n"


def _diff(store: Store, options: argparse.Namespace) -> str:
    registry = _registry(store, options)
    lines = []
    for name in (registry.kind.manifest_file, ATTACK_MANIFEST_FILE, EVALUATION_FILE):
        one, other = (
            json.loads(registry.read(entry.id, name)) if name in entry.files else {}
            for entry in (registry.entry(options.one), registry.entry(options.other))
        )
        for path, here, there in differences(one, other):
            lines.append(f"{name}: {path}: {_short(here)} -> {_short(there)}\n")
    return "".join(lines) or "no difference\n"


def _pull(store: Store, options: argparse.Namespace) -> str:
    registry = _registry(store, options)
    path = registry.fetch(options.model, options.to)
    return f"{path} verified; {registry.kind.setting}={options.to / 'current' / path.name}\n"


def _history(store: Store, options: argparse.Namespace) -> str:
    lines = [
        f"{step.number:>4}  {_date(step.at)}  {_shown(step.action):<9}  champion {step.champion}  "
        f"{_shown(step.reason)}".rstrip()
        + "\n"
        for step in _registry(store, options).history()
    ]
    return "".join(lines) or "no history yet\n"


def _list_data(store: Store, _options: argparse.Namespace) -> str:
    from src.registry.data_sets import DataSets  # noqa: PLC0415  --help needs no tables

    rows = [
        (
            one.id,
            one.entry.kind,
            "" if one.entry.columns is None else one.entry.columns.label,
            ", ".join(sorted(one.entry.files)),
            "" if one.withdrawn is None else f"withdrawn: {one.withdrawn}",
        )
        for one in DataSets(store).list()
    ]
    return (
        _table(("id", "kind", "label", "files", ""), rows)
        if rows
        else f"{store.name} holds no data sets yet: npm run models -- data add DIR\n"
    )


def _add_data(store: Store, options: argparse.Namespace) -> str:
    from src.registry.data_sets import DataSets, check_chain, checked  # noqa: PLC0415  as above

    columns = location.columns(options)
    read = location.data_set if columns is None else cli.data_file
    data = checked(read(options.data), columns)
    registry = Registry(store)
    if columns is None and registry.ledger().champion is not None:
        manifest = json.loads(registry.read(CHAMPION, registry.kind.manifest_file))
        check_chain(data.path, manifest.get("chain_id", 1))
    return "\n".join([f"{DataSets(store).add(data)} is stored", *data.notes]) + "\n"


def _withdraw_data(store: Store, options: argparse.Namespace) -> str:
    from src.registry.data_sets import DataSets  # noqa: PLC0415  as above

    data_id = DataSets(store).withdraw(options.data, reason=options.reason)
    return f"{data_id} is withdrawn: it stays in the store, and is not trained on\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [header, *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in cells
    )


def _shown(text: str) -> str:
    """A text from the store, which others may write to: on one line, without control characters."""
    return sanitise_text(text, _MAX_SHOWN)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("models", _DESCRIPTION, _EPILOG)
    _add_store(parser, default=os.environ.get(STORE_VARIABLE, "").strip())
    _add_kind(parser, default="forest")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str, among: Any = commands) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = among.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        _add_store(added, default=argparse.SUPPRESS)
        if among is commands:
            _add_kind(added, default=argparse.SUPPRESS)
        return added

    def reason(added: argparse.ArgumentParser) -> None:
        added.add_argument("--reason", default="by hand", help="why, for the history")

    command("list", _list, "list the complete models and their aliases")
    show = command("show", _show, "show a model: manifest, evaluation, data, code version")
    show.add_argument("model", nargs="?", default=CHAMPION, metavar="MODEL")
    add = command("add", _add, "add the bundle in a folder as challenger")
    add.add_argument("bundle", type=cli.path, metavar="DIR")
    add.add_argument("--promote", action="store_true", help="also make it the champion")
    promote = command("promote", _promote, "make a model the champion")
    promote.add_argument("model", nargs="?", default="challenger", metavar="MODEL")
    reason(promote)
    reason(command("rollback", _rollback, "return to the previous champion"))
    diff = command("diff", _diff, "show the differences between two models")
    diff.add_argument("one", metavar="MODEL")
    diff.add_argument("other", metavar="MODEL")
    pull = command("pull", _pull, "download and verify a model, for MODEL_PATH")
    pull.add_argument("model", nargs="?", default=CHAMPION, metavar="MODEL")
    pull.add_argument("--to", type=cli.output_folder, required=True, metavar="DIR")
    command("history", _history, "list all promotions and rollbacks")
    about = "list, add or withdraw the data sets that are trained on"
    data = commands.add_parser("data", help=about, description=about)
    actions = data.add_subparsers(required=True, metavar="COMMAND")
    command("list", _list_data, "list the complete data sets", actions)
    added = command("add", _add_data, "check a data set and store it", actions)
    added.add_argument(
        "data",
        metavar="DATA",
        help="a folder of transactions and transfers, or with --label a labelled table",
    )
    location.add_columns(added)
    withdraw = command("withdraw", _withdraw_data, "train on a data set no longer", actions)
    withdraw.add_argument("data", metavar="ID", help="its id, or the unique beginning of one")
    reason(withdraw)
    options = parser.parse_args(arguments)
    if not options.store:
        parser.error(NO_STORE)
    return options


def _add_store(parser: argparse.ArgumentParser, *, default: str) -> None:
    about = "a folder or s3://bucket/prefix ($STORE_URL)"
    parser.add_argument("--store", metavar="URL", default=default, help=about)


def _add_kind(parser: argparse.ArgumentParser, *, default: str) -> None:
    about = "of the models (forest)"
    parser.add_argument("--kind", choices=list(KINDS), default=default, help=about)


if __name__ == "__main__":
    sys.exit(main())
