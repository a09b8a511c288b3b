"""Fuzzing of everything that reads what strangers write: `npm run fuzz`."""
