"""From a transaction and the facts about it to a decision and its alerts."""
