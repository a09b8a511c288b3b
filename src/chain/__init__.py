"""Access to the chain: transfers, nodes, explorers, recordings of blocks."""
