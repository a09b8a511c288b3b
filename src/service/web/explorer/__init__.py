"""Search, and the pages of accounts and tokens: what the database holds of them."""
