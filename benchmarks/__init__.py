"""Measurements of the bot's speed, latency and memory; `docs/performance.md` explains them."""
