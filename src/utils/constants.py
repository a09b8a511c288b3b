"""Constants of the bot that its users see. What can be configured is in `settings`."""

from typing import Final

BOT_NAME: Final = "anomalous-token-transfers"

# Classes of findings: alert ids are the public interface of the bot, see README "Alerts".
NORMAL_ALERT_ID: Final = "NORMAL-TOKEN-TRANSFERS-TX"
ANOMALOUS_ALERT_ID: Final = "ANOMALOUS-TOKEN-TRANSFERS-TX"
INVALID_ALERT_ID: Final = "INVALID-TOKEN-TRANSFERS-TX"

# A rule's finding, by the alert id that its detector states: name and what is said of the sender.
RULE_ALERTS: Final = {
    "KNOWN-BAD-ADDRESS": ("Known Bad Address", "{sender} executed tx with a listed bad address"),
    "IMPERSONATED-TOKEN": (
        "Impersonated Token",
        "{sender} executed tx with a token that impersonates a well-known one",
    ),
    "ADDRESS-POISONING": ("Address Poisoning", "{sender} executed tx that poisons an address book"),
    "FRESH-ACCOUNT-LARGE-VALUE": (
        "Fresh Account Large Value",
        "{sender}, a fresh account, executed tx of extraordinarily large value",
    ),
    "FLASH-LOAN-PROFIT": ("Flash Loan Profit", "{sender} executed tx with a profitable flash loan"),
    "DRAINED-ACCOUNT": ("Drained Account", "{sender} executed tx that drains an account"),
    "DISPROPORTIONATE-MINT": (
        "Disproportionate Mint",
        "{sender} executed tx that mints out of proportion",
    ),
    "SUPERVISED-MODEL-FRAUD": (
        "Supervised Model Fraud",
        "{sender} executed tx that the supervised model takes for fraud",
    ),
}

# The label that an anomalous transaction carries, and its entity type by Forta's convention.
ATTACKER_LABEL: Final = "attacker"

EXPLANATION_FEATURES: Final = 10
"""Features named in `model_explanations`, most weighty first."""

MAX_ADDRESSES: Final = 50
"""Addresses in a finding; the scan node keeps no more."""

MAX_TOKENS_IN_METADATA: Final = 50
"""Tokens detailed in a finding's metadata, those with most transfers; the others are counted."""

SECONDS_PER_MINUTE: Final = 60

PROTOCOLS: Final = {
    1: "ethereum",
    10: "optimism",
    56: "bsc",
    137: "polygon",
    250: "fantom",
    42161: "arbitrum",
    43114: "avalanche",
}
"""Name of the chain in a finding, by chain id."""
