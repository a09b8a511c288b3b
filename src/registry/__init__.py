"""Immutable model bundles and data sets, and which of them are in use."""
