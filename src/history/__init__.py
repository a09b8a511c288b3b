"""The history store: one form for blocks from anywhere, and the import that writes it."""
