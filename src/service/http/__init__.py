"""What holds for every request: limits, keys, errors, the protocol."""
