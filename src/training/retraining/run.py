"""The retraining of the isolation forest and its attack model, and the command for every kind."""

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from src import cli
from src.chain.clients.deadline import Deadline
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.networks import blocks_a_day, described, network
from src.chain.quantities import as_int
from src.datasets import location
from src.datasets.training_set import load_background
from src.decision.second_opinion import open_attack_model
from src.detection.bundle_files import ATTACK_MODEL_FILE, DRIFT_FILE
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import Model, load_model
from src.files import write_file
from src.monitoring.drift.sample import read_sample
from src.registry.bundle import BLOCKS_FILE, FOREST_FILES, KINDS, MODEL_FILE, forest_id
from src.registry.data_sets import CheckedData, DataSets, check_chain, checked
from src.registry.drift_reference import load_sample
from src.registry.records import CHAMPION, DataKind
from src.registry.registry import Registry
from src.registry.sign import configured_key, sign_model
from src.registry.store import open_store
from src.settings import load_settings, model_public_key, on_the_nodes_chain
from src.training.attack.data import LabelledTransactions
from src.training.attack.train import train_attack
from src.training.blocks import WantedBlock, collect
from src.training.hyperparameters import Hyperparameters
from src.training.retraining.data import RetrainingData, prepare
from src.training.retraining.feedback import Feedback, read_all
from src.training.retraining.fraud import retrain_fraud
from src.training.retraining.gate import Judged, Tolerances, another, judge
from src.training.retraining.outcome import Outcome, settle, to_markdown, verdict, write
from src.training.retraining.pictures import draw_all
from src.training.run import train
from src.training.supervised.run import Options
from src.variables import SettingsError

REFUSED = 3

_FINAL_BLOCKS = 64  # newer ones can still be replaced

logger = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    cli.log_to_stderr()
    try:
        outcome = _run(options)
    except cli.CommandError:
        raise
    except Exception as error:  # a scheduled job needs a reason and an exit code for any of them
        what = (
            "" if isinstance(error, OSError | ValueError | RuntimeError) else type(error).__name__
        )
        said = ": ".join(filter(None, (what, cli.described(error))))
        raise cli.CommandError(
            f"{said}; nothing was promoted", exit_code=cli.exit_code_of(error)
        ) from error
    sys.stdout.write(to_markdown(outcome))
    if options.report:
        try:
            write(outcome, options.report)
        except OSError as error:
            said = f"the report cannot be written: {cli.described(error)}. {verdict(outcome)}"
            raise cli.CommandError(said) from None
    return 0 if outcome.passed else REFUSED


def retrain(
    registry: Registry,
    folders: Sequence[Path],
    *,
    new: Sequence[CheckedData] = (),
    feedback: Feedback | None = None,
    parameters: Hyperparameters | None = None,
    tolerances: Tolerances | None = None,
    attack_only: bool = False,
    created_at: int,
    dry_run: bool = False,
    jobs: int = 1,
    repetitions: int = 1000,
    signing_key: str | None = None,
) -> Outcome:
    """Train a challenger, compare it, and promote it or not. If interrupted, the champion stays.

    New data sets are stored once they have been joined with the others. `attack_only`: train the
    attack model alone, for the champion's forest. `created_at` is in Unix seconds.

    Raises:
        RegistryError, StoreError: there is no champion, or it is incomplete, or was replaced
            meanwhile.
        ValueError: the data is unusable.
    """
    started = time.monotonic()
    champion = registry.entry(CHAMPION)
    with TemporaryDirectory(prefix="retrain-") as temporary:
        work = Path(temporary)
        logger.info("champion %s: downloading and verifying", champion.id)
        path = registry.fetch(champion.id, work / "champion")
        old = load_model(path, FEATURE_NAMES, public_key=registry.public_key)
        old_attack = open_attack_model(None, path, old, registry.public_key).model
        for one in new:
            check_chain(one.path, old.manifest.chain_id)
        added = [one for one in new if one.id not in {folder.name for folder in folders}]
        everything = [*folders, *(one.path for one in added)]
        logger.info("joining %d data sets", len(everything))
        feedback = feedback or Feedback()
        data = prepare(everything, feedback, work / "data")
        if not dry_run:
            for one in new:
                DataSets(registry.store).add(one)
        bundle = work / "challenger"
        bundle.mkdir()
        if attack_only:
            for name in (*FOREST_FILES, BLOCKS_FILE, DRIFT_FILE):
                if (path.parent / name).is_file():
                    shutil.copy(path.parent / name, bundle / name)
        else:
            logger.info("training the challenger")
            train(
                data.training,
                bundle,
                created_at=created_at,
                parameters=parameters,
                chain_id=old.manifest.chain_id,
                jobs=jobs,
            )
            sign_model(bundle / MODEL_FILE, signing_key)
        forest = load_model(bundle / MODEL_FILE, FEATURE_NAMES, public_key=registry.public_key)
        if 0 < data.kept_attacks.sum() < len(data.exploits):
            logger.info("training its attack model")
            _train_attack_model(data, forest, bundle, created_at, jobs, same_data=not attack_only)
            sign_model(bundle / ATTACK_MODEL_FILE, signing_key)
        path = bundle / MODEL_FILE
        attack = open_attack_model(None, path, forest, registry.public_key).model
        reference = read_sample(data.training, forest, as_reference=True, attack=attack)
        if (bundle / DRIFT_FILE).is_file():  # of the forest, which is the champion's
            own = load_sample(bundle / DRIFT_FILE)
            reference = own.with_attack_score_of(reference)
        write_file(bundle / DRIFT_FILE, reference.to_json().encode())
        logger.info("judging both")
        sides = Judged.by(old, old_attack, data), Judged.by(forest, attack, data)
        allowed = tolerances or Tolerances()
        checks = judge(*sides, data, allowed, repetitions=repetitions)
        checks.append(another(*(side.digests for side in sides)))
        # There is enough to draw, if the first check passed.
        pictures = draw_all(*sides, allowed.alert_budget) if checks[0].passed else {}
        outcome = Outcome(
            champion=champion.id,
            challenger=forest_id(forest.manifest, attack.manifest if attack else None),
            checks=tuple(checks),
            dry_run=dry_run,
            data=(*(folder.name for folder in folders), *(one.id for one in added)),
            unknown_feedback=data.unknown_feedback,
            notes=_notes(feedback),
            seconds=time.monotonic() - started,
            pictures=pictures,
        )
        return settle(registry, bundle, outcome)


def _notes(feedback: Feedback) -> tuple[str, ...]:
    attacks, benign = len(feedback.attacks), len(feedback.benign)
    if not attacks and not benign:
        return ()
    return (f"By the analysts' feedback {attacks:,} transactions are attacks, {benign:,} are not.",)


def _train_attack_model(
    data: RetrainingData, forest: Model, out: Path, created_at: int, jobs: int, *, same_data: bool
) -> None:
    background = load_background(data.training)
    learned = data.exploits.where(~data.kept_attacks)
    labelled = LabelledTransactions.of(background, [learned])
    train_attack(labelled, forest, out, created_at=created_at, jobs=jobs, same_data=same_data)


def collect_recent(blocks: int, folder: Path) -> None:
    """Collect blocks spread evenly over the last week into a folder.

    Raises:
        SourceError, UnverifiedBlock, ValueError: the node cannot supply them.
    """
    settings = on_the_nodes_chain(load_settings())
    if not settings.json_rpc_url:
        raise SettingsError("JSON_RPC_URL", "set to the node to collect from")
    limit = RateLimit(Rate(settings.json_rpc_requests_per_second, 1.0))
    with closing(JsonRpcClient(settings.json_rpc_url, timeout=30.0, rate_limit=limit)) as client:
        head = as_int(client.call("eth_blockNumber", [], Deadline.after(30.0)))
        if head is None:
            raise ValueError("the node does not return its newest block")
        last = max(0, head - _FINAL_BLOCKS)
        seconds = settings.block_seconds or network(settings.chain_id).seconds_per_block
        if seconds is None:
            chain = described(settings.chain_id)
            raise ValueError(f"no time between blocks of {chain}: set BLOCK_SECONDS")
        first = max(0, last - 7 * blocks_a_day(seconds))
        numbers = sorted(set(np.linspace(first, last, blocks).astype(int).tolist()))
        collect(client, [WantedBlock(number) for number in numbers], folder)


def _run(options: argparse.Namespace) -> Outcome:
    key, public_key = configured_key(), model_public_key()
    if public_key is not None and key is None:
        raise cli.CommandError(
            "MODEL_PUBLIC_KEY is set, so a challenger must be signed: set MODEL_SIGNING_KEY too"
        )
    columns = location.columns(options)
    read = location.data_set if columns is None else cli.data_file
    new = [checked(read(text), columns) for text in options.data]
    with TemporaryDirectory(prefix="retrain-data-") as work:
        store = open_store(options.store)
        registry = Registry(store, KINDS[options.kind], public_key=public_key)
        manifest = json.loads(registry.read(CHAMPION, registry.kind.manifest_file))
        chain_id = None if options.kind == "fraud" else manifest.get("chain_id", 1)
        feedback = read_all(options.feedback, chain_id)
        if options.collect:
            logger.info("collecting %d blocks of the last week", options.collect)
            collect_recent(options.collect, Path(work) / "collected")
            new.append(checked(Path(work) / "collected"))
        kind: DataKind = "labelled" if options.kind == "fraud" else "transactions"
        stored = DataSets(store).fetch(kind, Path(work) / "data")
        if options.kind == "fraud":
            return retrain_fraud(
                registry,
                stored,
                new=new,
                feedback=feedback,
                options=Options(
                    folds=options.folds or Options().folds,
                    trees=options.trees or Options().trees,
                    jobs=options.jobs,
                ),
                keep_classifier=options.keep_classifier,
                created_at=options.created_at,
                dry_run=options.dry_run,
                signing_key=key,
            )
        return retrain(
            registry,
            list(stored),
            new=new,
            feedback=feedback.of_transactions,
            parameters=Hyperparameters(**dict(options.parameter)),
            attack_only=options.kind == "attack",
            created_at=options.created_at,
            dry_run=options.dry_run,
            jobs=options.jobs,
            signing_key=key,
        )
