"""An evaluation's files: Markdown, HTML, JSON, pictures, and the model's card."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from src import cli
from src.detection.attack.manifest import read_attack_manifest
from src.detection.bundle_files import ATTACK_MODEL_FILE
from src.detection.forest.manifest import read_manifest
from src.files import write_file
from src.registry.bundle import CARD_FILE, EVALUATION_FILE, bundle_file
from src.settings import DEFAULT_MODEL_PATH, PROJECT_ROOT, model_public_key
from src.training.evaluation.figures import draw_all
from src.training.evaluation.measure import evaluate
from src.training.evaluation.model_card import model_card
from src.training.evaluation.report import to_html, to_markdown
from src.training.evaluation.statistics import Scored
from src.training.evaluation.unseen.cross_fit import FOREST
from src.training.evaluation.unseen.measure import UnseenData

TITLE = "Evaluation of the anomaly model"


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    started = time.monotonic()
    cli.log_to_stderr()
    figures, detectors = evaluate(
        options.data, unseen=UnseenData.of(options), repetitions=options.repetitions
    )
    write_report(options.out, figures, detectors)
    if options.model_card:
        manifest = read_manifest(DEFAULT_MODEL_PATH, model_public_key())
        path = DEFAULT_MODEL_PATH.parent / ATTACK_MODEL_FILE
        attack = read_attack_manifest(path, model_public_key()) if path.exists() else None
        figures = {"model_sha256": manifest.sha256, **figures}
        write_file(bundle_file(PROJECT_ROOT, EVALUATION_FILE), _json(figures))
        card = model_card(figures, manifest, attack)
        write_file(bundle_file(PROJECT_ROOT, CARD_FILE), card.encode())
    forest = figures["detectors"][FOREST]
    sys.stdout.write(
        f"AUC {forest['auc']['all']['auc']:.3f}; {forest['recall']['0.4%']['recall']:.0%} of the "
        f"exploits flagged at 0.4% of the background; {time.monotonic() - started:.0f} s.\n"
        f"Read {options.out / 'evaluation.html'} or {options.out / 'evaluation.md'}.\n"
    )
    return 0


def write_report(out: Path, figures: dict[str, Any], detectors: dict[str, Scored]) -> None:
    """Write the report's files into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = draw_all(figures, detectors)
    for name, content in pictures.items():
        write_file(out / name, content)
    write_file(out / EVALUATION_FILE, _json(figures))
    write_file(out / "evaluation.md", to_markdown(figures, pictures, TITLE).encode())
    write_file(out / "evaluation.html", to_html(figures, pictures, TITLE).encode())


def _json(figures: dict[str, Any]) -> bytes:
    return (json.dumps(_rounded(figures), indent=1, allow_nan=False) + "\n").encode()


def _rounded(value: Any) -> Any:
    """Six decimals: more say nothing and differ between machines."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
