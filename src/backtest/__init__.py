"""History at scale: what the bot would have said, over a day, a year or the whole chain."""
