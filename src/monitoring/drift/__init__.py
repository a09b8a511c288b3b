"""Drift of traffic from a model's training data."""
