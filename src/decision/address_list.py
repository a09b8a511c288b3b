"""The list of known bad addresses, which the detector `known_bad_address` compares with."""

from collections.abc import Collection, Iterable

from src.chain.names.labels import LabelledAddresses
from src.chain.quantities import SECONDS_PER_MINUTE
from src.chain.transfers import Transfer
from src.detection.evidence import KnownBad, ListMatches
from src.settings import Settings

_MAX_MATCHES = 20


class AddressList(LabelledAddresses):
    """The list of the setting ADDRESS_LIST."""

    WHAT = "the list of bad addresses"

    def match(
        self,
        sender: str | None,
        to: str | None,
        transfers: Iterable[Transfer],
        unknown_tokens: Collection[str] = (),
    ) -> ListMatches | None:
        """The listed addresses among a transaction's; None while there is no list yet.

        Args:
            sender: of the transaction, or None.
            to: the contract called, or None.
            transfers: those that count.
            unknown_tokens: the other tokens moved: their events may name anybody, but are theirs.
        """
        labels = self.labels
        if labels is None:
            return None
        age_minutes = self.age_seconds / SECONDS_PER_MINUTE
        found: dict[str, KnownBad] = {}
        for address, role in ((sender, "sender"), (to, "contract called")):
            if address is not None and address in labels:
                found.setdefault(address, KnownBad(address, labels[address], role))
        named = [a for one in transfers for a in (one.sender, one.recipient, one.token)]
        for address in (*named, *sorted(unknown_tokens)):
            if address in labels and len(found) < _MAX_MATCHES:
                found.setdefault(address, KnownBad(address, labels[address], "counterparty"))
        return ListMatches(tuple(found.values()), age_minutes)


def open_address_list(settings: Settings) -> AddressList | None:
    """The list that the settings name, or None.

    Raises:
        AddressListError: the file is missing or invalid.
    """
    if settings.address_list is None:
        return None
    refresh = settings.address_list_refresh_minutes * SECONDS_PER_MINUTE
    return AddressList(settings.address_list, refresh_seconds=refresh)
