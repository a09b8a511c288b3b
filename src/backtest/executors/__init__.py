"""Where slices run: processes of this machine, or Spark."""
