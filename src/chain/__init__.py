"""The outside world: transfers, nodes, explorers, recordings of blocks."""
