"""A drift check of two samples of traffic, from its arguments to its files."""

import argparse
import sys

from src.decision.second_opinion import open_attack_model
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.supervised.model import InvalidInputs, load_fraud_model
from src.files import write_file
from src.monitoring.drift.drift_report import to_json
from src.monitoring.drift.inputs import read_inputs, sample_of_predictions
from src.monitoring.drift.levels import Levels
from src.monitoring.drift.page import to_page
from src.monitoring.drift.sample import read_sample
from src.monitoring.drift.verdict import Verdict, compare
from src.registry.drift_reference import TrafficSample, load_sample
from src.settings import load_settings

EXIT_CODES = {Verdict.OK: 0, Verdict.WATCH: 3, Verdict.RETRAIN: 4}


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    levels = Levels(least=options.least)
    samples = _samples_of_fraud(options) if options.fraud else _samples(options)
    if samples is None:
        return 0
    drift = compare(*samples, levels)
    if options.html:
        write_file(options.html, to_page(drift, levels).encode())
    if options.json:
        write_file(options.json, to_json(drift).encode())
    sys.stdout.write(f"{drift.verdict.name.lower()}\n")
    sys.stdout.write("".join(f"  {reason}\n" for reason in drift.reasons))
    return EXIT_CODES[drift.verdict]


def _samples(options: argparse.Namespace) -> tuple[TrafficSample, TrafficSample] | None:
    """The reference and the current traffic; None if there is nothing to compare."""
    settings = load_settings()
    path, key = options.model or settings.model_path, settings.model_public_key
    model = load_model(path, available_inputs=FEATURE_NAMES, public_key=key)
    named = None if options.model else settings.attack_model_path
    attack = open_attack_model(named, path, model, key).model
    reference = read_sample(options.reference, model, as_reference=True, attack=attack)
    if options.save_reference:
        write_file(options.save_reference, reference.to_json().encode())
    if options.current is None:
        return None
    return reference, read_sample(options.current, model, as_reference=False, attack=attack)


def _samples_of_fraud(options: argparse.Namespace) -> tuple[TrafficSample, TrafficSample]:
    """The reference of a supervised model's training and a table of its inputs."""
    model = load_fraud_model(options.model, public_key=load_settings().model_public_key)
    reference = load_sample(options.reference)
    rows = read_inputs(options.current, model.inputs)
    try:
        return reference, sample_of_predictions(model, rows)
    except InvalidInputs as error:
        raise ValueError(f"{options.current}: {error}") from error
