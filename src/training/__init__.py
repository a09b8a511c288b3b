"""Training a model bundle from recorded transactions, and its evaluation."""
