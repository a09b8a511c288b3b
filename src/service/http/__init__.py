"""Checks and limits for every request: authentication, rate limits, errors, the HTTP protocol."""
