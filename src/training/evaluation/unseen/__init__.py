"""How both models do on attacks that no fold's model was fitted on, and on rewritten ones."""
