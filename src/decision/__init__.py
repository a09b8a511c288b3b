"""Decides on transactions and raises alerts."""
