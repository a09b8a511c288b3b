"""Clients of external services (nodes, explorers, the owner store) and their limits."""
