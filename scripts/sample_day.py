"""Invent the sample day of `notebooks/daily_model_stats.ipynb`: `python -m scripts.sample_day`.

Alerts in the form of Forta's API, whose scores are drawn from the shipped model's training scores.
Hashes are invented too. The same model gives the same bytes.
"""

import gzip
import json
from pathlib import Path

import numpy as np

from src.detection.forest.manifest import read_manifest
from src.settings import DEFAULT_MODEL_PATH, PROJECT_ROOT
from src.utils.constants import ANOMALOUS_ALERT_ID, INVALID_ALERT_ID, NORMAL_ALERT_ID

SAMPLE_DAY = PROJECT_ROOT / "notebooks" / "sample_day.json.gz"
DAY = "2026-11-01"
TRANSACTIONS = 1_500
INVALID_SHARE = 0.002
FIRST_BLOCK = 23_700_000


def main(path: Path = SAMPLE_DAY) -> None:
    """Write the file."""
    manifest = read_manifest(DEFAULT_MODEL_PATH)
    random = np.random.default_rng(0)
    quantiles = np.array(manifest.score_quantiles)
    scores = np.interp(random.random(TRANSACTIONS), np.linspace(0, 1, len(quantiles)), quantiles)
    busy = 1 + 0.5 * np.sin(np.linspace(0, 2 * np.pi, 86_400))  # an uneven day
    seconds = np.sort(random.choice(86_400, TRANSACTIONS, replace=False, p=busy / busy.sum()))
    alerts = []
    for score, second in zip(scores.tolist(), seconds.tolist(), strict=True):
        tx_hash = f"0x{random.bytes(32).hex()}"
        metadata = {"model_version": str(manifest.model_version)}
        if random.random() < INVALID_SHARE:
            alert_id, severity = INVALID_ALERT_ID, "LOW"
        else:
            is_anomaly = score >= manifest.anomaly_threshold
            alert_id = ANOMALOUS_ALERT_ID if is_anomaly else NORMAL_ALERT_ID
            severity = "CRITICAL" if is_anomaly else "INFO"
            metadata["anomaly_score"] = f"{score:.3f}"
            metadata["anomaly_threshold"] = f"{manifest.anomaly_threshold:g}"
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        block = {"number": FIRST_BLOCK + second // 12, "timestamp": f"{DAY}T{clock}Z", "chainId": 1}
        source = {"transactionHash": tx_hash, "block": block}
        alerts.append(
            {"alertId": alert_id, "severity": severity, "metadata": metadata, "source": source}
        )
    path.write_bytes(gzip.compress(json.dumps(alerts).encode(), mtime=0))


if __name__ == "__main__":
    main()
