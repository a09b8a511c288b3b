"""The pure core: features, model, score, explanation. No I/O beyond loading a model."""
