"""A drift check of two samples of traffic, from its arguments to its files."""

import argparse
import sys

from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.files import write_file
from src.monitoring.drift.drift_report import to_json, to_page
from src.monitoring.drift.levels import Levels
from src.monitoring.drift.sample import read_sample
from src.monitoring.drift.verdict import Verdict, compare
from src.settings import load_settings

EXIT_CODES = {Verdict.OK: 0, Verdict.WATCH: 3, Verdict.RETRAIN: 4}


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    levels = Levels(least=options.least)
    settings = load_settings()
    model = load_model(
        options.model or settings.model_path,
        available_inputs=FEATURE_NAMES,
        public_key=settings.model_public_key,
    )
    reference = read_sample(options.reference, model, as_reference=True)
    if options.save_reference:
        write_file(options.save_reference, reference.to_json().encode())
    if options.current is None:
        return 0
    drift = compare(reference, read_sample(options.current, model, as_reference=False), levels)
    if options.html:
        write_file(options.html, to_page(drift, levels).encode())
    if options.json:
        write_file(options.json, to_json(drift).encode())
    sys.stdout.write(f"{drift.verdict.name.lower()}\n")
    sys.stdout.write("".join(f"  {reason}\n" for reason in drift.reasons))
    return EXIT_CODES[drift.verdict]
