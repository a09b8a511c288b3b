"""How good a model is: measurements, baselines, intervals, reports."""
