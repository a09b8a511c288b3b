"""Handle an event as the bridge does, and answer what the bot asks."""

import json

from werkzeug import Response

from src import agent

PRIMARY = {
    "NORMAL-TOKEN-TRANSFERS-TX",
    "ANOMALOUS-TOKEN-TRANSFERS-TX",
    "INVALID-TOKEN-TRANSFERS-TX",
}


def handle(event):
    """Handle an event and read the one primary finding as the bridge does."""
    primary = [f for f in agent.handle_transaction(event) if f.alert_id in PRIMARY]
    assert len(primary) <= 1
    return json.loads(primary[0].toJson()) if primary else None


def answering(body, status=200):
    text = body if isinstance(body, str) else json.dumps(body)
    return lambda request: Response(text, status=status)
