"""What the handlers use: constants, feature building, findings, logging."""
