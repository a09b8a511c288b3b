"""Backtesting of the bot on historical data, from a day to the whole chain."""
