"""The web pages: rendered on the server, with no content from other sites."""

from src.service.web.pages import add_pages, show_problem

__all__ = ["add_pages", "show_problem"]
