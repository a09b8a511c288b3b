"""From recorded transactions to a model bundle, and its honest evaluation."""
