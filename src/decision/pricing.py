"""The second step of a decision: what was gained and lost, for transactions that are reported.

Prices are the only facts that are asked for between two steps of the pipeline, since few
transactions need them. Nothing of the first step, the score least of all, depends on them.
"""

from collections.abc import Mapping

from src.chain.facts import Price
from src.chain.lookups.lookups import Lookups
from src.chain.networks import network
from src.chain.transactions import TransactionFields
from src.decision.alerts import alerts_of, is_arbitrage
from src.decision.money import money_of, tokens_to_price
from src.decision.pipeline import Pipeline
from src.decision.result import Result
from src.decision.sentence import sentence
from src.decision.tokens import TokenView
from src.detection.evidence import Evidence
from src.detection.records import NATIVE_DECIMALS


def with_prices(
    pipeline: Pipeline, lookups: Lookups, transaction: TransactionFields, result: Result
) -> Result:
    """The result with its money. Asks for prices only if something is reported."""
    if result.gains is None:
        return result
    tokens = tokens_to_price(result.gains, network(pipeline.chain_id).wrapped_native)
    prices = lookups.prices(tokens, transaction.block_number, transaction.timestamp)
    return priced(pipeline, transaction, result, prices)


def priced(
    pipeline: Pipeline,
    transaction: TransactionFields,
    result: Result,
    prices: Mapping[str, Price],
) -> Result:
    """The result with what was gained and lost, and the policy's `min_gained_usd` applied."""
    if result.gains is None:
        return result
    money = money_of(
        result.gains,
        prices,
        result.tokens,
        wrapped_native=network(pipeline.chain_id).wrapped_native,
        gas_cost=transaction.gas_cost,
        is_arbitrage=is_arbitrage(result.decision),
        value_of=result.evidence.value_of,
    )
    decision = pipeline.suite.weighed(result.decision, money.largest_gain_usd)
    alerts = result.alerts
    if decision is not result.decision:
        alerts = alerts_of(
            decision, transaction.sender, is_anomaly=result.is_anomaly, problem=result.problem
        )
    result = result._replace(money=money, decision=decision, alerts=alerts)
    return with_summary(pipeline, result)


def native_summary(pipeline: Pipeline, transaction: TransactionFields) -> str | None:
    """The sentence on a transaction without ERC-20 transfers that succeeds.

    None if it moves nothing of the native currency from one account to another.
    """
    chain = network(pipeline.chain_id)
    wrapped = chain.wrapped_native
    evidence = Evidence(
        (),
        sender=transaction.sender,
        to=transaction.to,
        nonce=transaction.nonce,
        value=transaction.value,
        native=transaction.native,
        native_symbol=chain.native_symbol,
        wrapped_native=wrapped,
    )
    if not (evidence.gains.own or evidence.gains.others):
        return None
    tokens = {}
    if wrapped is not None:
        symbol = f"W{chain.native_symbol}"
        tokens[wrapped] = TokenView(wrapped, symbol, symbol, NATIVE_DECIMALS)
    return sentence(evidence, tokens, names=pipeline.names.name_of, has_token_list=False)


def with_summary(pipeline: Pipeline, result: Result) -> Result:
    """The result with the sentence on who gained and lost what."""
    summary = sentence(
        result.evidence,
        result.tokens,
        money=result.money,
        is_arbitrage=is_arbitrage(result.decision),
        names=pipeline.names.name_of,
        has_token_list=len(pipeline.well_known) > 0,
    )
    return result._replace(summary=summary)
