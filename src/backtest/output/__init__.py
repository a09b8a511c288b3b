"""Output of a run: decisions, alerts, reports, comparisons."""
