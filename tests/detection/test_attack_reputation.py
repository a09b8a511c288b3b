"""Events of tokens without a reputation: they can raise an attack score and never lower it."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.decision.second_opinion import OpenedAttackModel, SecondOpinion
from src.detection.assessment import Assessor
from src.detection.attack.model import load_attack_model
from src.detection.attack.reputation import known_parts, score_table
from src.detection.bundle_files import ATTACK_MODEL_FILE
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.forest.model import load_model
from src.settings import PROJECT_ROOT
from tests.support.attack import write_small_attack_model

ACCOUNTS = [f"0x{number:040x}" for number in range(5)]  # the zero address among them
KNOWN = [f"0x{0xA:04x}{number:036x}" for number in range(3)]
UNKNOWN = [f"0x{0xB:04x}{number:036x}" for number in range(2)]


@dataclass(frozen=True)
class Move:
    """A transfer as the features read it."""

    token: str
    sender: str
    recipient: str
    amount: int


def moves(tokens: list[str], least: int, most: int):
    move = st.builds(
        Move,
        st.sampled_from(tokens),
        st.sampled_from(ACCOUNTS),
        st.sampled_from(ACCOUNTS),
        st.integers(0, 10**20),
    )
    return st.lists(move, min_size=least, max_size=most)


@pytest.fixture(scope="module")
def models(bundle_path, tmp_path_factory):
    forest = load_model(bundle_path, FEATURE_NAMES)
    path = write_small_attack_model(forest, folder=tmp_path_factory.mktemp("attack"))
    return forest, load_attack_model(path, forest)


def live_score(models, transfers, sender, unknown):
    forest, attack = models
    profile = TokenProfile.from_manifest(forest.manifest)
    assessor = Assessor(forest, attributions=3)
    opinion = SecondOpinion(OpenedAttackModel(attack), forest, profile, explain_from=0.9)
    row = feature_row(transfers, sender, profile)
    columns = [FEATURE_NAMES.index(name) for name in forest.inputs]
    assessed = assessor.assess(row[columns])
    return opinion.assess(transfers, sender, row, assessed, frozenset(unknown)).score


@given(data=st.data(), known=moves(KNOWN, 1, 8), added=moves(UNKNOWN, 1, 6))
def test_events_of_unknown_tokens_never_lower_the_attack_score(models, data, known, added):
    sender = data.draw(st.sampled_from(ACCOUNTS[1:]))
    mixed = list(known)
    for event in added:
        mixed.insert(data.draw(st.integers(0, len(mixed))), event)
    plain = live_score(models, known, sender, UNKNOWN)
    assert live_score(models, mixed, sender, UNKNOWN) >= plain
    assert live_score(models, mixed, sender, ()) <= live_score(models, mixed, sender, UNKNOWN)


@given(
    transactions=st.lists(
        st.tuples(moves(KNOWN + UNKNOWN, 1, 6), st.sampled_from(ACCOUNTS[1:])),
        min_size=1,
        max_size=6,
    )
)
def test_a_table_has_the_scores_of_live_handling_to_the_last_bit(models, transactions):
    forest, attack = models
    for unknown in ((), UNKNOWN, KNOWN, KNOWN + UNKNOWN):
        batch = TransferBatch.from_transactions(transactions)
        table = score_table(attack, forest, batch, unknown=frozenset(unknown))
        live = [live_score(models, *transaction, unknown) for transaction in transactions]
        assert table.scores.tolist() == live
        assert table.rows.shape == (len(transactions), len(attack.inputs))


def test_what_is_left_of_transactions_is_what_is_known():
    one = [Move(KNOWN[0], *ACCOUNTS[1:3], 1), Move(UNKNOWN[0], *ACCOUNTS[2:4], 2)]
    two = [Move(UNKNOWN[0], *ACCOUNTS[2:4], 3)]
    three = [Move(KNOWN[1], *ACCOUNTS[2:4], 4)]
    batch = TransferBatch.from_transactions([(each, ACCOUNTS[4]) for each in (one, two, three)])
    part, positions = known_parts(batch, UNKNOWN)
    assert positions.tolist() == [0]
    assert (part.amount.tolist(), part.offsets.tolist()) == ([1.0], [0, 1])
    assert part.n_transactions == 1
    empty, none = known_parts(TransferBatch.from_transactions([]), UNKNOWN)
    assert (empty.n_transactions, np.size(none)) == (0, 0)


def test_one_event_in_the_origins_name_no_longer_hides_an_attack():
    """The cheapest evasion of all, against the shipped models: 2,131 gas for the event."""
    path = PROJECT_ROOT / "isolation_forest.pkl"
    forest = load_model(path, FEATURE_NAMES)
    models = forest, load_attack_model(path.with_name(ATTACK_MODEL_FILE), forest)
    lender, contract, pool, origin = (f"0x{number:040x}" for number in range(11, 15))
    loan, loot = KNOWN[:2]
    attack = [Move(loan, lender, contract, 10**24)]
    for _ in range(6):
        attack += [Move(loan, contract, pool, 10**23), Move(loot, pool, contract, 10**21)]
        attack += [Move(loot, contract, pool, 10**20), Move(loan, pool, contract, 10**23)]
    attack += [Move(loan, contract, lender, 10**24)]
    hidden = [*attack, Move(UNKNOWN[0], origin, pool, 1)]
    plain = live_score(models, attack, origin, UNKNOWN)
    assert plain > 0.996
    assert live_score(models, hidden, origin, ()) < plain
    assert live_score(models, hidden, origin, UNKNOWN) == plain
