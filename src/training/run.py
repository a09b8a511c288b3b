"""A training run: data set in, model bundle out."""

import argparse
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from src import cli
from src.datasets.training_set import (
    block_list,
    chain_id_of,
    data_identity,
    load_background,
)
from src.detection.bundle_files import DRIFT_FILE
from src.detection.features.definitions import FEATURE_NAMES, FOREST_INPUTS
from src.detection.forest.manifest import Manifest
from src.detection.forest.model import load_model
from src.files import write_file
from src.monitoring.drift.sample import read_sample
from src.registry.bundle import BLOCKS_FILE, MODEL_FILE, bundle_file
from src.registry.sign import configured_key, sign_model
from src.settings import model_public_key
from src.training.bundle import write_bundle
from src.training.fit import cross_fit, fit
from src.training.hyperparameters import Hyperparameters
from src.training.reference_values import load_reference_values

logger = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    cli.log_to_stderr()
    started = time.monotonic()
    key = configured_key()
    manifest = train(options.data, options.out, created_at=options.created_at, jobs=options.jobs)
    sign_model(options.out / MODEL_FILE, key)
    forest = load_model(
        options.out / MODEL_FILE, FEATURE_NAMES, public_key=model_public_key() if key else None
    )
    reference = read_sample(options.data, forest, as_reference=True)
    write_file(options.out / DRIFT_FILE, reference.to_json().encode())
    data = manifest.training["data"]
    sys.stdout.write(
        f"{options.out / MODEL_FILE}: model {manifest.model_version}, "
        f"{manifest.training['forest_transactions']:,} of {data['transactions']:,} transactions "
        f"of {data['blocks']:,} blocks, {len(manifest.token_amounts)} token profiles, threshold "
        f"{manifest.anomaly_threshold:g}, {time.monotonic() - started:.0f} s.\n"
    )
    return 0


def train(
    data_folder: Path,
    out: Path,
    *,
    created_at: int,
    parameters: Hyperparameters | None = None,
    chain_id: int | None = None,
    jobs: int = 1,
) -> Manifest:
    """Train on a folder and write the bundle into `out`.

    `created_at` is in Unix seconds; `chain_id` is the transactions' chain, None for what the folder
    states, else mainnet; `jobs` does not change the result.

    Raises:
        ValueError: the data is unusable; the message says why.
        OSError: a file is unreadable or not writable.
    """
    parameters = parameters or Hyperparameters()
    data = load_background(data_folder)
    crossed = cross_fit(data, parameters, jobs=jobs)
    logger.info("fitting")
    model = fit(data, parameters, jobs=jobs)
    manifest = write_bundle(
        out / MODEL_FILE,
        forest=model.forest,
        inputs=FOREST_INPUTS,
        training_rows=model.features(data),
        training_scores=crossed.scores,
        token_amounts=model.token_amounts,
        reference_values=load_reference_values(),
        anomaly_threshold=parameters.anomaly_threshold,
        model_version=created_at,
        training={
            "data": data_identity(data, model.profile_rows),
            "forest_transactions": len(model.forest_rows),
            "selection": (
                "whole blocks with every log, at least one ERC-20 transfer, known exploits "
                "left out, each hash once; capped source and single transfers thinned by "
                "digits of the hash"
            ),
            "hyperparameters": asdict(parameters),
            "background_transactions": len(data),
            "background_share_flagged": float(
                np.mean(crossed.scores >= parameters.anomaly_threshold)
            ),
            "scores": "cross-fitted by whole blocks, natural mix of transactions",
        },
        chain_id=chain_id or chain_id_of(data_folder) or 1,
    )
    write_file(bundle_file(out, BLOCKS_FILE), block_list(data, model.profile_rows).encode())
    return manifest
