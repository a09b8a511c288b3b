"""The training of the attack model as a command: its progress and its summary."""

import argparse
import sys
import time

from src import cli
from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.registry.sign import configured_key, write_signature
from src.settings import model_public_key
from src.training.attack.data import load_labelled
from src.training.attack.train import train_attack


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
    if key:
        write_signature(manifest_path(path), key)
    training = manifest.training
    sys.stdout.write(
        f"{path}: attack model {manifest.model_version} for the isolation forest "
        f"{manifest.forest_sha256[:12]}, {training['attacks']:,} attacks of "
        f"{training['attack_graphs']:,} transfer graphs against "
        f"{training['background_transactions']:,} background transactions, "
        f"{time.monotonic() - started:.0f} s.\n"
    )
    return 0
