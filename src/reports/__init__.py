"""Shared parts of reports: HTML page, plot style, Markdown."""
