"""The attack model: labelled transactions, the trees, their calibration, the bundle."""
