"""The analysis service: HTTP API, web pages, watch mode and their database."""
