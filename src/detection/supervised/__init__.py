"""Supervised classifiers: loading and scoring."""
