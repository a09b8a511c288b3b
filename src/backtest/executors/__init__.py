"""Execution of slices: local processes or Spark."""
