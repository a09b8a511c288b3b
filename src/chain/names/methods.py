"""Names of contracts' methods, by selector."""

import json
from functools import cache
from pathlib import Path
from typing import Final

METHODS_PATH: Final = Path(__file__).with_name("methods.json")
"""Written by `scripts/build_chain_data.mjs`, which says where they come from."""


def signature_of(selector: str | None) -> str | None:
    """A well-known method with this selector, such as `transfer(address,uint256)`, or None.

    Any contract may have another method of the same selector: four bytes are found in a second.
    """
    return None if selector is None else _signatures().get(selector)


@cache
def _signatures() -> dict[str, str]:
    found: dict[str, str] = json.loads(METHODS_PATH.read_text(encoding="utf-8"))["methods"]
    return found
