"""The web pages: server-rendered, small, without anything from other sites."""

from src.service.web.pages import add_pages, router

__all__ = ["add_pages", "router"]
