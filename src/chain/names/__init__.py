"""Names of addresses: the published ones, and the operator's own."""
