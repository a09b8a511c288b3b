"""Training of supervised classifiers on labelled tables."""
