"""Sums of leaf values over decision trees, and their exact explanation."""
