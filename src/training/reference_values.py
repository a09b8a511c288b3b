"""The table of reference values that training takes: `reference_values.json` beside this file.

Wrapped natives, stablecoins, liquid staking tokens and wrapped bitcoin, rounded, of the one day
that the file states. A model carries the table that it was trained with in its manifest.
"""

import functools
import json
from pathlib import Path

from src.detection.features.reference_values import ReferenceValues

_FILE = Path(__file__).with_suffix(".json")


@functools.cache
def load_reference_values() -> ReferenceValues:
    """Read the table."""
    return ReferenceValues.parse(json.loads(_FILE.read_text()))
