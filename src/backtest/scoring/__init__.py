"""From transactions to decisions, in batches."""
