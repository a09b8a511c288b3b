"""The attack model: trees trained on known attacks, ranked together with the isolation forest."""
