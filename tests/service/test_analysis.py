"""The batch analysis itself: pure, exact, and the same in whatever order its input arrives."""

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import dill
import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from src.chain.lookups.build import build_lookups
from src.chain.transfers import Transfer
from src.decision.tokens import TokenView
from src.detection.errors import ModelMalformed
from src.service.analysis.batch import Analyst
from src.service.analysis.detector import (
    TokenMove,
    TrainedForest,
    feature_matrix,
    moved_by,
    ranked,
    token_moves,
    train,
)
from src.service.http.problems import Problem
from src.service.records import LoadedTransaction
from src.service.settings import ServiceSettings
from tests.conftest import ALICE, BOB, TIMESTAMP, UNKNOWN_TOKEN, USDC
from tests.support.pickles import first_difference

TOKENS = {USDC: TokenView(USDC, "USD Coin", "USDC", 6)}
INPUTS = ("value", "gas_cost")


def transaction(number: int, *amounts: int, token: str = USDC) -> LoadedTransaction:
    return LoadedTransaction(
        tx_hash=f"0x{number:064x}",
        block_number=1,
        block_hash="0x" + "b" * 64,
        block_timestamp=TIMESTAMP,
        tx_index=number,
        sender=ALICE,
        to=BOB,
        nonce=0,
        gas_used=21_000 + number,
        gas_price=10**9,
        transfers=tuple(
            Transfer(token, ALICE, BOB, amount, index) for index, amount in enumerate(amounts)
        ),
    )


def usual(count: int = 300) -> list[LoadedTransaction]:
    draw = random.Random(7)
    return [transaction(number, draw.randrange(10**6, 10**9)) for number in range(count)]


def moves_of(transactions: list[LoadedTransaction], *facts: Any) -> list[TokenMove]:
    return token_moves(map(moved_by, transactions), *facts)


def analysed(transactions: list[LoadedTransaction], contamination: float = 0.01) -> list[object]:
    moves = moves_of(transactions, TOKENS)
    matrix = feature_matrix(moves, INPUTS)
    forest = train(matrix, contamination=contamination, random_state=42)
    return [forest.content, *ranked(moves, matrix, forest)]


def test_order_does_not_matter() -> None:
    transactions = usual()
    shuffled = random.Random(3).sample(transactions, len(transactions))
    assert analysed(transactions) == analysed(shuffled)


def test_order_of_transfers_does_not_matter() -> None:
    one = transaction(1, 5, 7, 9)
    other = replace(one, transfers=one.transfers[::-1])
    assert moves_of([one], TOKENS) == moves_of([other], TOKENS)


@pytest.mark.parametrize(
    ("chain_id", "block_seconds", "seconds", "blocks"),
    [(1, None, 30, 3), (1, None, 36, 3), (8453, None, 30, 15), (42161, None, 1, 4), (1, 10, 30, 3),
     (424_242, 10, 1, 1)],
)  # fmt: skip
def test_an_interval_takes_the_blocks_that_cover_it(
    chain_id: int, block_seconds: float | None, seconds: int, blocks: int
) -> None:
    assert analyst(chain_id, block_seconds).blocks_of_interval(seconds) == blocks


def test_an_interval_on_a_chain_of_unknown_speed_is_refused() -> None:
    with pytest.raises(Problem, match=r"Chain 424242 .* BLOCK_SECONDS"):
        analyst(424_242, None).blocks_of_interval(30)


def analyst(chain_id: int, block_seconds: float | None) -> Analyst:
    """One that asks nobody."""
    nobody: Any = None
    lookups = build_lookups(chain_id=chain_id, seconds_per_block=block_seconds)
    return Analyst(nobody, nobody, lookups, ServiceSettings(), chain_id)


@pytest.mark.integration
def test_the_hash_seed_does_not_matter() -> None:
    seed = min({"1", "2"} - {os.environ.get("PYTHONHASHSEED", "random")})
    program = (
        "from tests.service.test_analysis import *; forest, *rows = analysed(usual());"
        "print(forest.hex(), rows)"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    content, rows = elsewhere.split(" ", 1)
    forest, *here = analysed(usual())
    assert isinstance(forest, bytes)
    assert first_difference(bytes.fromhex(content), forest) == ""
    assert rows == f"{here}\n"


def test_scores_and_anomalies_are_scikit_learns() -> None:
    moves = moves_of(usual(), TOKENS)
    matrix = feature_matrix(moves, INPUTS)
    rows = ranked(moves, matrix, train(matrix, contamination=0.01, random_state=42))
    forest = IsolationForest(contamination=0.01, random_state=42).fit(matrix)
    by_hash = {row.tx_hash: row for row in rows}
    scores = [by_hash[move.tx_hash].score for move in moves]
    flags = [by_hash[move.tx_hash].is_anomaly for move in moves]
    assert np.array_equal(scores, np.abs(forest.score_samples(matrix)))
    assert np.array_equal(flags, forest.predict(matrix) == -1)
    assert sum(flags) == 3


def test_the_whole_route_is_summed_exactly_and_scaled_once() -> None:
    (move,) = moves_of([transaction(1, *[4] * 1_000)], TOKENS)
    assert move.value == 0.004
    assert move.gas_cost == 21_001 * 10**9 / 10**18


def test_unknown_decimals_count_as_the_usual_ones() -> None:
    (move,) = moves_of([transaction(1, 10**18, token=UNKNOWN_TOKEN)], {})
    assert (move.value, move.label) == (1.0, UNKNOWN_TOKEN)


def test_tokens_of_one_name_are_told_apart() -> None:
    one = transaction(1, 5)
    both = replace(one, transfers=(*one.transfers, Transfer(UNKNOWN_TOKEN, ALICE, BOB, 5, 9)))
    tokens = TOKENS | {UNKNOWN_TOKEN: TokenView(UNKNOWN_TOKEN, "x", "USDC", 6)}
    labels = {move.label for move in moves_of([both], tokens)}
    assert labels == {f"USDC ({USDC})", f"USDC ({UNKNOWN_TOKEN})"}


def test_the_largest_amounts_are_scored() -> None:
    huge = transaction(9_999, *[2**256 - 1] * 3)
    rows = analysed([*usual(), huge])
    top = rows[1]
    assert top.tx_hash == huge.tx_hash
    assert top.is_anomaly


def test_a_share_of_the_supply_is_a_feature() -> None:
    (move,) = moves_of([transaction(1, 250)], TOKENS, {USDC: 1_000})
    assert move.supply_share == 0.25
    assert feature_matrix([move], ("supply_share",)).tolist() == [[0.25]]


def test_content_that_would_run_something_is_refused() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.system, ("false",))

    moves = moves_of(usual(5), TOKENS)
    matrix = feature_matrix(moves, INPUTS)
    with pytest.raises(ModelMalformed, match="refused"):
        ranked(moves, matrix, TrainedForest(dill.dumps(Evil()), -0.5))


def test_a_forest_of_other_inputs_is_refused() -> None:
    moves = moves_of(usual(5), TOKENS)
    forest = train(feature_matrix(moves, ("value",)), contamination=0.1, random_state=1)
    assert forest.sha256 == hashlib.sha256(forest.content).hexdigest()
    with pytest.raises(ValueError, match="1 inputs"):
        ranked(moves, feature_matrix(moves, INPUTS), forest)
