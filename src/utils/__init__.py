"""Helpers of the handlers: constants, features, findings, logging."""
