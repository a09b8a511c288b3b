"""Recorded ranges of blocks: format, fetching and verification."""
