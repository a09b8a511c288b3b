"""A bot's published alerts, from the Forta API."""
