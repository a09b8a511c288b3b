"""Watch mode: follow a node's head, decide, store, notify."""
