"""Batch analysis of a range of blocks, and its jobs."""
