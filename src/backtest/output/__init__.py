"""What a run writes: decisions, alerts, reports, comparisons."""
