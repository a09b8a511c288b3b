"""Train the attack model for an isolation forest: cross-fit both, calibrate, fit on everything."""

import argparse
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from src import cli
from src.datasets.training_set import data_identity
from src.detection.attack.manifest import AttackManifest
from src.detection.attack.model import load_attack_model
from src.detection.attack.ranking import Calibration
from src.detection.bundle_files import ATTACK_MODEL_FILE, DRIFT_FILE
from src.detection.features.definitions import (
    FEATURE_NAMES,
    TokenProfile,
    columns_of,
    feature_table,
)
from src.detection.forest.model import Model, load_model
from src.files import write_file
from src.monitoring.drift.sample import read_sample
from src.registry.sign import configured_key, sign_model
from src.settings import model_public_key
from src.training.attack.bundle import write_attack_bundle
from src.training.attack.data import LabelledTransactions, load_labelled, looks_like_arbitrage
from src.training.attack.fit import AttackParameters, WeightedRows, fit_trees, outputs_of
from src.training.fit import cross_fit, select_rows
from src.training.hyperparameters import Hyperparameters

logger = logging.getLogger(__name__)


class OtherData(ValueError):
    """The forest was trained on other data than the attack model is to be calibrated on."""


def train_attack(
    data: LabelledTransactions,
    forest: Model,
    out: Path,
    *,
    created_at: int,
    jobs: int = 1,
    same_data: bool = True,
) -> AttackManifest:
    """Train and write the bundle into `out`.

    The background is what the forest was trained on, unless `same_data` is off: then forests of the
    same hyperparameters stand in for it in the calibration, which has to be judged afterwards.
    `created_at` is in Unix seconds; `jobs` does not change the bytes.

    Raises:
        OtherData: the forest was trained on other data.
        OSError: a file cannot be read or written.
    """
    parameters = AttackParameters()
    used = Hyperparameters(**forest.manifest.training.get("hyperparameters", {}))
    profile_rows, _ = select_rows(data.background, used)
    identity = data_identity(data.background, profile_rows)
    trained_on = forest.manifest.training.get("data", {}).get("sha256")
    if same_data and identity["sha256"] != trained_on:
        raise OtherData(
            f"these are not the transactions that the forest {forest.version} was trained "
            "on, so its scores cannot be calibrated with them: run `npm run train` on them first"
        )
    crossed = cross_fit(data.background, used, jobs=jobs)
    logger.info("cross-fitting the trees")
    outputs = np.zeros(len(data.background))
    values = forest.manifest.reference_values
    for fold, model in crossed.models.items():
        held_out = crossed.fold == fold
        profile = TokenProfile.from_amounts(model.token_amounts, values)
        (rows, weights), attacks = _weighted(data, profile, parameters)
        allowed = rows[~held_out], weights[~held_out]
        classifier = fit_trees(allowed, attacks, parameters, jobs=jobs)
        outputs[held_out] = outputs_of(classifier, rows[held_out])
    calibration = Calibration.of(crossed.scores, outputs)
    logger.info("fitting the trees")
    both = _weighted(data, TokenProfile.from_manifest(forest.manifest), parameters)
    classifier = fit_trees(*both, parameters, jobs=jobs)
    golden = np.concatenate([rows for rows, _ in both])
    return write_attack_bundle(
        out / ATTACK_MODEL_FILE,
        classifier=classifier,
        calibration=calibration,
        inputs=FEATURE_NAMES,
        forest_sha256=forest.manifest.sha256,
        golden=golden,
        golden_forest_scores=forest.score(golden[:, columns_of(forest.inputs)]),
        model_version=created_at,
        training={
            "data": identity,
            "background_transactions": len(data.background),
            "attacks": sum(len(one) for one in data.attacks),
            "attack_graphs": round(float(data.attack_weights.sum())),
            "parameters": asdict(parameters),
            "calibration": "cross-fitted by whole blocks, natural mix of transactions",
        },
    )


def _weighted(
    data: LabelledTransactions, profile: TokenProfile, parameters: AttackParameters
) -> tuple[WeightedRows, WeightedRows]:
    """Background and attacks."""
    background = feature_table(data.background.batch, profile)
    attacks = np.concatenate([feature_table(one.batch, profile) for one in data.attacks])
    is_arbitrage = looks_like_arbitrage(data.background, background)
    weights = np.where(is_arbitrage, parameters.arbitrage_weight, 1.0)
    return (background, weights), (attacks, data.attack_weights)


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    started = time.monotonic()
    key = configured_key()
    forest = load_model(options.model, FEATURE_NAMES, public_key=model_public_key())
    cli.log_to_stderr()
    data = load_labelled(options.data, options.replays)
    manifest = train_attack(
        data, forest, options.out, created_at=options.created_at, jobs=options.jobs
    )
    path = options.out / ATTACK_MODEL_FILE
    sign_model(path, key)
    model = load_attack_model(path, forest)
    reference = read_sample(options.data, forest, as_reference=True, attack=model)
    write_file(options.out / DRIFT_FILE, reference.to_json().encode())
    training = manifest.training
    sys.stdout.write(
        f"{path}: attack model {manifest.model_version} for the isolation forest "
        f"{manifest.forest_sha256[:12]}, {training['attacks']:,} attacks of "
        f"{training['attack_graphs']:,} transfer graphs against "
        f"{training['background_transactions']:,} background transactions, "
        f"{time.monotonic() - started:.0f} s.\n"
    )
    return 0
