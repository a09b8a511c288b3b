"""From exported files to transactions with their transfers."""
