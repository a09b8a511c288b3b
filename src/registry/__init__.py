"""Model bundles and data sets that are never changed, and which of them are in use."""
