"""Monitoring for operators: metrics, drift, statistics of published alerts."""
