"""Features of a transaction's transfers: definitions, kernel and its input arrays."""
