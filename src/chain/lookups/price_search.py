"""Which source is asked for which price."""

from collections.abc import Collection, Sequence

from src.chain.facts import Price
from src.chain.lookups.cache import FactCache
from src.chain.lookups.fallback import Inquiry
from src.chain.lookups.prices import Moment, token_of
from src.chain.lookups.sources import Sources
from src.chain.price_feeds import feed_of, fixed_price
from src.chain.well_known import WellKnownTokens


def begin(
    tokens: Collection[str],
    moment: Moment,
    sources: Sources,
    cache: FactCache,
    well_known: WellKnownTokens,
    chain_id: int,
) -> tuple[dict[str, Price], list[Inquiry[Price]]]:
    """The prices that are known without asking, and the inquiries for the others."""
    found: dict[str, Price] = {}
    feeds: dict[str, str] = {}
    others: list[str] = []
    for token in dict.fromkeys(tokens):
        question = moment.question(token)
        known = fixed_price(token, well_known) or cache.price(question)
        if known is not None:
            found[token] = known
        elif feed := feed_of(token, chain_id, well_known):
            feeds[question] = feed
        else:
            others.append(question)
    asked = (
        (list(feeds), sources.price_stages(moment, feeds)),
        (others, sources.price_stages(moment)),
    )
    return found, [Inquiry(keys, stages) for keys, stages in asked if keys and stages]


def answers(inquiries: Sequence[Inquiry[Price]]) -> dict[str, Price]:
    """What has been found, by token."""
    return {
        token_of(question): price
        for inquiry in inquiries
        for question, price in inquiry.found.items()
    }
