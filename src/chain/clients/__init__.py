"""Clients of what answers over the network: nodes, explorers, the owner store; and their limits."""
