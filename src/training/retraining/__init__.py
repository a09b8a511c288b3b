"""Challengers: trained on old and new data, promoted only if no worse."""
