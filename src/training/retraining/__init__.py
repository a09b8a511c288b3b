"""Retraining: challengers are trained on old and new data and promoted only if no worse."""
