"""Token metadata and first transactions, from one source after another, cached."""
