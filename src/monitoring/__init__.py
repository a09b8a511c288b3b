"""What operators see of the running system: metrics, drift, statistics of published alerts."""
