"""Backtesting of the bot on historical data, from a day to the whole chain."""

import os

# Read when pyarrow is imported. Its own allocator gives large buffers back to the kernel after each
# page of a file, which costs a thirtieth of a backtest; see `memory.keep_freed_memory`.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
