"""The web pages: rendered on the server, with no content from other sites."""

from src.service.web.pages import add_pages, router

__all__ = ["add_pages", "router"]
