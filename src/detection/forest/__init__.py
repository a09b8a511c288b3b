"""The Isolation Forest: loading, scoring and explaining."""
