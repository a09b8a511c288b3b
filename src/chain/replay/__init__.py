"""Recorded blocks served as an Ethereum node."""
