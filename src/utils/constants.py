"""Public constants of the bot. Configurable values are in `settings`."""

from typing import Final

from src.decision.alerts import ANOMALOUS, INVALID, NORMAL

# Alert ids are the public interface of the bot, see docs/alerts.md.
NORMAL_ALERT_ID: Final = NORMAL.id
ANOMALOUS_ALERT_ID: Final = ANOMALOUS.id
INVALID_ALERT_ID: Final = INVALID.id

# The label of an anomalous transaction, and its entity type by Forta's convention.
ATTACKER_LABEL: Final = "attacker"

MAX_ADDRESSES: Final = 50
"""Maximum number of addresses in a finding, as limited by the scan node."""
