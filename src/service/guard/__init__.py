"""The screening proxy: a JSON-RPC endpoint in front of a node that screens what is sent."""
