"""The bot and everything around it; `agent` is what Forta runs."""
