"""Public constants of the bot. Configurable values are in `settings`."""

from typing import Final

from src.decision.alerts import ANOMALOUS, INVALID, NORMAL
from src.detection.detectors.arbitrage import ArbitrageDetector

# Alert ids are the public interface of the bot, see docs/alerts.md.
NORMAL_ALERT_ID: Final = NORMAL.id
ANOMALOUS_ALERT_ID: Final = ANOMALOUS.id
INVALID_ALERT_ID: Final = INVALID.id

# The label of an anomalous transaction, and its entity type by Forta's convention.
ATTACKER_LABEL: Final = "attacker"

ARBITRAGE_LABEL: Final = ArbitrageDetector.LABEL
ARBITRAGE_CONFIDENCE: Final = 0.95
"""78 of 82 transactions of whole blocks that are named are arbitrage; the others settle orders."""

MAX_ADDRESSES: Final = 50
"""Maximum number of addresses in a finding, as limited by the scan node."""
