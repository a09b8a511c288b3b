"""The bot on a local chain: `npm run demo`, and the chain that the integration tests use."""
