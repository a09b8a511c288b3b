"""Compiled loops over arrays of transactions and transfers."""
