"""The address book of a chain: who an address is, as somebody has published it.

A name is for people. No decision depends on one, save that published routers hold others' money.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from src.chain.names.labels import LabelledAddresses
from src.chain.transfers import ZERO_ADDRESS
from src.chain.well_known import WellKnownTokens, load_well_known_tokens

PUBLISHED_PATH: Final = Path(__file__).with_name("published.json")
"""Written by `scripts/build_chain_data.mjs`, which says where each name comes from."""

_ADDRESS: Final = re.compile(r"(?<![0-9A-Za-z])0x[0-9a-f]{40}(?![0-9a-f])")


class AddressName(NamedTuple):
    """Who an address is."""

    label: str  # for people, short; cleaned, but from outside, like any text
    kind: str  # router, pool, bridge, exchange, lender, mixer, searcher, token, null or own
    source: str  # who says so: a package with its version, a file, a list


_NULL: Final = AddressName("zero address", "null", "mints come from it, burns go to it")


class AddressBook:
    """The names of one chain's addresses. Thread-safe.

    Args:
        published: names by lower-case address.
        tokens: the chain's well-known tokens, which are named by their symbols.
        own: the operator's own labels, which come first, or None.
    """

    def __init__(
        self,
        published: Mapping[str, AddressName],
        tokens: WellKnownTokens,
        own: LabelledAddresses | None = None,
    ) -> None:
        self._published = published
        self._tokens = tokens
        self._own = own

    def name_of(self, address: str | None) -> AddressName | None:
        """The name of a lower-case address; None for one that nobody has named here."""
        if address is None:
            return None
        own = self._own.labels if self._own is not None else None
        if own and (label := own.get(address)):
            return AddressName(label, "own", "the operator's address book")
        if (known := self._published.get(address)) is not None:
            return known
        if (token := self._tokens.get(address)) is not None:
            return AddressName(token.symbol, "token", "the built-in list of tokens")
        return _NULL if address == ZERO_ADDRESS else None

    def find(self, text: str, limit: int) -> list[tuple[str, AddressName]]:
        """Named addresses with a word of their label that begins so, shortest labels first.

        Well-known tokens are not among them.
        """
        wanted = re.compile(rf"(?<!\w){re.escape(text)}", re.IGNORECASE)
        own = self._own.labels if self._own is not None else None
        addresses = {**self._published, **(own or {})}
        named = [(one, name) for one in addresses if (name := self.name_of(one)) is not None]
        found = [(one, name) for one, name in named if wanted.search(name.label)]
        found.sort(key=lambda one: (len(one[1].label), one[1].label, one[0]))
        return found[:limit]

    def with_names(self, text: str) -> str:
        """A text for people, each known address in it preceded by its name. Idempotent.

        A label that holds an address itself is left out: the next time, that one would get a name.
        """

        def named(found: re.Match[str]) -> str:
            name = self.name_of(found[0])
            if (
                name is None
                or text.endswith(f"{name.label} (", 0, found.start())
                or _ADDRESS.search(name.label)
            ):
                return found[0]
            return f"{name.label} ({found[0]})"

        return _ADDRESS.sub(named, text)

    def problem(self) -> str | None:
        """What is wrong with the operator's file, or None."""
        return self._own.problem() if self._own is not None else None

    def close(self) -> None:
        """Stop reading the operator's file."""
        if self._own is not None:
            self._own.close()


NO_NAMES: Final = AddressBook({}, WellKnownTokens({}, {}))


def open_address_book(chain_id: int, own: Path | None = None) -> AddressBook:
    """The address book of a chain.

    Args:
        chain_id: a chain without a record has no published names.
        own: the operator's file: lines of `address,label`, or JSON. It is read again as soon as it
            changes; while it is invalid, the last names stay in use.

    Raises:
        AddressListError: the operator's file is missing or invalid.
    """
    labels = LabelledAddresses(str(own)) if own is not None else None
    tokens = load_well_known_tokens(chain_id)
    return AddressBook(_published().get(chain_id, {}), tokens, labels)


@cache
def published_routers(chain_id: int) -> frozenset[str]:
    """The routers of a chain that somebody has published."""
    names = _published().get(chain_id, {})
    return frozenset(address for address, name in names.items() if name.kind == "router")


@cache
def _published() -> dict[int, dict[str, AddressName]]:
    content = json.loads(PUBLISHED_PATH.read_text(encoding="utf-8"))
    versions = {one["package"]: f"{one['package']} {one['version']}" for one in content["sources"]}
    return {
        int(chain_id): {
            address: AddressName(label, kind, versions.get(source, source))
            for address, (label, kind, source) in names.items()
        }
        for chain_id, names in content["names"].items()
    }
