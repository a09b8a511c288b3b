"""Lists in pages: the address has their filter, order and page, and links lead to others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from src.service.web.forms import page_within

MAX_EXPORTED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as its address says."""

    path: str  # of the page
    kept: Mapping[str, str]  # the fields of the filter that are on
    sorts: tuple[str, ...]  # what it may be sorted by
    sort: str  # what it is sorted by
    descending: bool  # rather than ascending
    anchor: str = ""  # of the list in its page

    @property
    def order(self) -> dict[str, str]:
        """The order as fields of the address."""
        return {"sort": self.sort, "order": "desc" if self.descending else "asc"}

    def link(self, **changes: str) -> str:
        """A link to the list with other fields; empty ones are left out."""
        return f"{self.path}?{self._query(changes)}{self.anchor}"

    def sort_link(self, key: str) -> str:
        """A link to the list by this key, in the other direction if it is that already."""
        is_own = key == self.sort and self.descending
        return self.link(sort=key, order="asc" if is_own else "desc")

    def offset(self, query: Mapping[str, str], total: int, size: int) -> int:
        """How many entries are before the page. Raises Problem 400 for an invalid number."""
        return (page_within(query, total, size)[0] - 1) * size

    def values(self, query: Mapping[str, str], total: int, size: int) -> dict[str, Any]:
        """What the templates of lists show of it, besides the entries."""
        number, pages = page_within(query, total, size)
        return {
            "total": total,
            "first": (number - 1) * size + 1,
            "page_number": number,
            "pages": pages,
            "page_address": f"{self.path}?{self._query({})}&",
            **self.order,
            "sort_to": {key: self.sort_link(key) for key in self.sorts},
            "exports": {kind: f"{self.path}.{kind}?{self._query({})}" for kind in ("csv", "json")},
            "max_exported": MAX_EXPORTED,
        }

    def _query(self, changes: Mapping[str, str]) -> str:
        fields = {**self.kept, **self.order, **changes}
        return urlencode({name: value for name, value in fields.items() if value})
