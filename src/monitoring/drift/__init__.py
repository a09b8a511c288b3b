"""How far traffic has moved from what a model was trained on."""
