"""Who gained and lost what in a history, at fixed prices, since a history holds no others."""

from typing import NamedTuple

from src.chain.facts import TokenInfo
from src.chain.networks import network
from src.chain.price_feeds import fixed_price
from src.chain.well_known import WellKnownTokens
from src.decision.alerts import is_arbitrage
from src.decision.money import Money, money_of
from src.decision.sentence import Names, nameless, sentence
from src.decision.tokens import TokenView, shown_tokens
from src.detection.evidence import Evidence, TokenLike
from src.detection.records import Decision


class Moved(NamedTuple):
    """Who gained and lost what."""

    money: Money  # without native value and gas, which a history does not hold
    summary: str  # the same as a sentence


def moved_by(
    evidence: Evidence, decision: Decision, well_known: WellKnownTokens, names: Names = nameless
) -> Moved:
    """Who gained and lost what by a transaction; `names` of its accounts."""
    tokens = {
        token: view
        for token in shown_tokens(evidence.transfers)
        if (view := _view(token, evidence.tokens.get(token), well_known.get(token)))
    }
    arbitrage = is_arbitrage(decision)
    money = money_of(
        evidence.gains,
        {token: price for token in tokens if (price := fixed_price(token, well_known))},
        tokens,
        wrapped_native=network(evidence.chain_id).wrapped_native,
        gas_cost=None,
        is_arbitrage=arbitrage,
        value_of=evidence.value_of,
    )
    told = sentence(
        evidence,
        tokens,
        money=money,
        is_arbitrage=arbitrage,
        names=names,
        has_token_list=len(well_known) > 0,
    )
    return Moved(money, told)


def _view(token: str, fact: TokenLike | None, listed: TokenInfo | None) -> TokenView | None:
    if listed is not None:
        return TokenView(token, listed.name, listed.symbol, listed.decimals, well_known=True)
    return None if fact is None else TokenView(token, "", fact.symbol, None, fact.impersonates)
