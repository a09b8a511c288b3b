"""A retraining: collect, train, judge, promote or refuse."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from src import cli
from src.chain.clients.deadline import Deadline
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.quantities import as_int
from src.datasets.training_set import load_background
from src.decision.second_opinion import open_attack_model
from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import Model, load_model
from src.files import write_file
from src.registry.bundle import MODEL_FILE, forest_id
from src.registry.data_sets import CheckedData, DataSets, checked
from src.registry.records import CHAMPION
from src.registry.registry import Registry, code_version
from src.registry.sign import configured_key, write_signature
from src.registry.store import open_store
from src.reports.page import Section, to_html
from src.settings import load_settings, model_public_key
from src.training.attack.data import LabelledTransactions
from src.training.attack.train import train_attack
from src.training.blocks import WantedBlock, collect
from src.training.hyperparameters import Hyperparameters
from src.training.retraining.data import RetrainingData, prepare
from src.training.retraining.feedback import Feedback, read_feedback
from src.training.retraining.gate import Check, judge
from src.training.retraining.tolerances import Tolerances
from src.training.run import train

REFUSED = 3

_FINAL_BLOCKS = 64  # newer ones can still be replaced

_BLOCKS_A_DAY = 7_200

Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a retraining.

    Attributes:
        champion: id of the champion at the start.
        challenger: id of the new model.
        checks: results of the gate.
        promoted: whether the challenger became champion.
        dry_run: whether promotion was disabled.
        data: ids of the data sets.
        unknown_feedback: transaction hashes that are in no data set.
        seconds: total duration.
    """

    champion: str
    challenger: str
    checks: tuple[Check, ...]
    promoted: bool
    dry_run: bool
    data: tuple[str, ...]
    unknown_feedback: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    try:
        outcome = _run(options)
    except Exception as error:  # a scheduled job needs a reason and an exit code for any of them
        what = (
            "" if isinstance(error, OSError | ValueError | RuntimeError) else type(error).__name__
        )
        said = ": ".join(filter(None, (what, cli.described(error))))
        raise cli.CommandError(f"{said}; nothing was promoted") from error
    if options.report:
        _write(outcome, options.report)
    sys.stdout.write(to_markdown(outcome))
    return 0 if outcome.passed else REFUSED


def retrain(
    registry: Registry,
    folders: Sequence[Path],
    *,
    new: Sequence[CheckedData] = (),
    feedback: Feedback | None = None,
    parameters: Hyperparameters | None = None,
    tolerances: Tolerances | None = None,
    created_at: int | None = None,
    dry_run: bool = False,
    jobs: int = 1,
    repetitions: int = 1000,
    signing_key: str | None = None,
    on_progress: Progress = lambda _: None,
) -> Outcome:
    """Train a challenger, compare it, and promote it or not. If interrupted, the champion stays.

    Args:
        registry: has a champion.
        folders: the data sets of the store.
        new: further data sets, which are stored once they have been joined with the others.
        feedback: analysts' verdicts.
        parameters: of the challenger; None for the project's.
        tolerances: of the gate.
        created_at: the challenger's version, Unix seconds; None for now.
        dry_run: compare only; nothing is stored.
        jobs: number of processes.
        repetitions: of each bootstrap.
        signing_key: signs the challenger; None to leave it unsigned.
        on_progress: called with a progress message.

    Raises:
        RegistryError, StoreError: there is no champion, or it is incomplete, or was replaced
            meanwhile.
        ValueError: the data is unusable.
    """
    started = time.monotonic()
    made = int(time.time()) if created_at is None else created_at
    champion = registry.entry(CHAMPION)
    with TemporaryDirectory(prefix="retrain-") as temporary:
        work = Path(temporary)
        on_progress(f"champion {champion.id}: downloading and verifying")
        path = registry.fetch(champion.id, work / "champion")
        old = load_model(path, FEATURE_NAMES, public_key=registry.public_key)
        old_attack = open_attack_model(None, path, old, registry.public_key).model
        added = [one for one in new if one.id not in {folder.name for folder in folders}]
        everything = [*folders, *(one.path for one in added)]
        on_progress(f"joining {len(everything)} data sets")
        data = prepare(everything, feedback or Feedback(), work / "data")
        if not dry_run:
            for one in new:
                DataSets(registry.store).add(one)
        on_progress("training the challenger")
        bundle = work / "challenger"
        bundle.mkdir()
        train(data.training, bundle, created_at=made, parameters=parameters, jobs=jobs)
        if signing_key:
            write_signature(manifest_path(bundle / MODEL_FILE), signing_key)
        forest = load_model(bundle / MODEL_FILE, FEATURE_NAMES, public_key=registry.public_key)
        if not data.kept_attacks.all():
            on_progress("training its attack model")
            _train_attack_model(data, forest, bundle, created_at=made, jobs=jobs)
            if signing_key:
                write_signature(manifest_path(bundle / ATTACK_MODEL_FILE), signing_key)
        path = bundle / MODEL_FILE
        attack = open_attack_model(None, path, forest, registry.public_key).model
        on_progress("judging both")
        checks = tuple(
            judge(
                old,
                forest,
                data,
                tolerances,
                champion_attack=old_attack,
                challenger_attack=attack,
                repetitions=repetitions,
            )
        )
        outcome = Outcome(
            champion=champion.id,
            challenger=forest_id(forest.manifest, attack.manifest if attack else None),
            checks=checks,
            promoted=False,
            dry_run=dry_run,
            data=(*(folder.name for folder in folders), *(one.id for one in added)),
            unknown_feedback=data.unknown_feedback,
            seconds=time.monotonic() - started,
        )
        if dry_run:
            return outcome
        on_progress(f"storing the challenger {outcome.challenger}")
        entry = registry.add(
            bundle, code_version=code_version(), evaluation=to_json(outcome).encode()
        )
        registry.challenge(entry.id, reason="retraining")
        if outcome.passed:
            on_progress("promoting it")
            registry.promote(
                entry.id, expected=champion.id, reason="retraining: every check passed"
            )
            outcome = replace(outcome, promoted=True)
    return replace(outcome, seconds=time.monotonic() - started)


def _train_attack_model(
    data: RetrainingData, forest: Model, out: Path, *, created_at: int, jobs: int
) -> None:
    background = load_background(data.training)
    learned = data.exploits.where(~data.kept_attacks)
    labelled = LabelledTransactions.of(background, [learned])
    train_attack(labelled, forest, out, created_at=created_at, jobs=jobs)


def collect_recent(blocks: int, days: float, folder: Path) -> None:
    """Collect blocks spread evenly over the last days into a folder.

    Raises:
        SourceError, UnverifiedBlock, ValueError: the node cannot supply them.
    """
    settings = load_settings()
    if not settings.json_rpc_url:
        raise ValueError("no node to collect from: set JSON_RPC_URL")
    limit = RateLimit(Rate(settings.json_rpc_requests_per_second, 1.0))
    with closing(JsonRpcClient(settings.json_rpc_url, timeout=30.0, rate_limit=limit)) as client:
        head = as_int(client.call("eth_blockNumber", [], Deadline.after(30.0)))
        if head is None:
            raise ValueError("the node does not return its newest block")
        last = max(0, head - _FINAL_BLOCKS)
        first = max(0, last - int(days * _BLOCKS_A_DAY))
        numbers = sorted(set(np.linspace(first, last, blocks).astype(int).tolist()))
        collect(client, [WantedBlock(number) for number in numbers], folder)


def to_json(outcome: Outcome) -> str:
    """The result as JSON, which is stored with the challenger as its evaluation."""
    content = {**asdict(outcome), "passed": outcome.passed}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def to_markdown(outcome: Outcome) -> str:
    """The result as Markdown, for the terminal and for pull requests."""
    lines = [
        f"## {_verdict(outcome)}",
        "",
        "| check | | champion | challenger | |",
        "|---|---|---|---|---|",
    ]
    lines += [" ".join(["|", " | ".join(row), "|"]) for row in _rows(outcome)]
    if outcome.unknown_feedback:
        lines += ["", _unknown(outcome)]
    return "\n".join(lines) + "\n"


def to_page(outcome: Outcome) -> str:
    """The result as an HTML page."""
    paragraphs = [
        f"Champion {outcome.champion}, challenger {outcome.challenger}, data sets "
        f"{', '.join(outcome.data)}, {outcome.seconds:.0f} s."
    ]
    if outcome.unknown_feedback:
        paragraphs.append(_unknown(outcome))
    header = ("check", "", "champion", "challenger", "")
    return to_html("Retraining", [Section(_verdict(outcome), paragraphs, header, _rows(outcome))])


def _verdict(outcome: Outcome) -> str:
    failed = [check.name for check in outcome.checks if not check.passed]
    if failed:
        return f"Refused: {outcome.challenger} fails {', '.join(failed)}"
    if outcome.dry_run:
        return f"Would be promoted: {outcome.challenger}"
    return f"Promoted: {outcome.challenger}"


def _rows(outcome: Outcome) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            check.name,
            "ok" if check.passed else "FAILED",
            check.champion,
            check.challenger,
            check.why,
        )
        for check in outcome.checks
    ]


def _unknown(outcome: Outcome) -> str:
    shown = ", ".join(outcome.unknown_feedback[:5])
    return (
        f"{len(outcome.unknown_feedback)} transactions with feedback are in no data set ({shown}): "
        "collect their blocks to use it."
    )


def _run(options: argparse.Namespace) -> Outcome:
    key = configured_key()
    verdicts = [read_feedback(path) for path in options.feedback]
    feedback = Feedback(
        attacks=frozenset().union(*(one.attacks for one in verdicts)),
        benign=frozenset().union(*(one.benign for one in verdicts)),
    )
    with TemporaryDirectory(prefix="retrain-data-") as work:
        new = [checked(folder) for folder in options.data]
        store = open_store(options.store)
        if options.collect:
            _say(f"collecting {options.collect} blocks of the last {options.days:g} days")
            collect_recent(options.collect, options.days, Path(work) / "collected")
            new.append(checked(Path(work) / "collected"))
        folders = DataSets(store).fetch("transactions", options.cache or Path(work) / "data")
        return retrain(
            Registry(store, public_key=model_public_key()),
            list(folders),
            new=new,
            feedback=Feedback(
                feedback.attacks - feedback.benign, feedback.benign - feedback.attacks
            ),
            parameters=Hyperparameters(**options.parameter),
            tolerances=Tolerances(alert_budget=options.alert_budget),
            created_at=options.created_at,
            dry_run=options.dry_run,
            jobs=options.jobs,
            signing_key=key,
            on_progress=_say,
        )


def _say(text: str) -> None:
    sys.stderr.write(f"{text} ...\n")


def _write(outcome: Outcome, folder: Path) -> None:
    write_file(folder / "retraining.json", to_json(outcome).encode())
    write_file(folder / "retraining.md", to_markdown(outcome).encode())
    write_file(folder / "retraining.html", to_page(outcome).encode())
