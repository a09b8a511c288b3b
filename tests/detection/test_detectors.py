"""Every rule sees what it is for, leaves ordinary transactions alone and says what it lacks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence, KnownBad, ListMatches, TokenFact
from src.detection.forest.manifest import TokenAmounts
from src.detection.records import Action, Assessment, Status
from tests.conftest import ALICE, BOB, UNKNOWN_TOKEN, USDC

CAROL = "0x" + "c3" * 20
POOL = "0x" + "70" * 20
REAL = "0xdb1a65a00dddd8961d310f86077373b39a8b7c54"
FAKE = "0xdb19d20ded05012813b29de926c5c454d37b7c54"
AMOUNTS = {USDC: TokenAmounts(center=8.0, scale=0.5)}
EQUIPMENT = Equipment(anomaly_threshold=0.6, token_amounts=AMOUNTS)


def detector(name, **parameters):
    cls = DETECTORS[name]
    defaults = {key: parameter.default for key, parameter in cls.PARAMETERS.items()}
    return cls.build({**defaults, **parameters}, EQUIPMENT)


def transfers(*rows):
    return [Transfer(*row, index) for index, row in enumerate(rows)]


def judge(name, *rows, sender=ALICE, to=BOB, parameters=None, **facts):
    evidence = Evidence(transfers(*rows), sender=sender, to=to, **facts)
    return detector(name, **(parameters or {})).evaluate(evidence)


def assessment(score):
    return Assessment(score, 99.0, 0.4)


@pytest.mark.parametrize(
    ("score", "action"),
    [(0.599, 0), (0.6, 1), (0.749, 1), (0.75, 2), (1.0, 2)],
)
def test_the_forest_reviews_at_the_anomaly_threshold_and_blocks_above(score, action):
    verdict = judge("isolation_forest", assessment=assessment(score))
    assert verdict.action == action
    assert f"{score:.3f}" in verdict.reason


def test_the_forest_says_when_there_is_no_score():
    assert judge("isolation_forest").action is Action.REVIEW
    allowed = judge("isolation_forest", parameters={"review_unscored": 0})
    assert (allowed.action, allowed.status) == (Action.ALLOW, Status.MISSING_INPUTS)


def test_a_higher_anomaly_threshold_raises_blocking_along():
    forest = DETECTORS["isolation_forest"].build(
        {"review_at": None, "block_at": 0.75, "review_unscored": 1},
        Equipment(anomaly_threshold=0.9),
    )
    assert forest.evaluate(Evidence([], assessment=assessment(0.8))).action is Action.ALLOW
    assert forest.evaluate(Evidence([], assessment=assessment(0.9))).action is Action.BLOCK


class Classifier:
    version = "1650000000"
    inputs = ("density",)

    def probability(self, features):
        return features["density"]


@pytest.mark.parametrize(
    ("probability", "action"), [(0.1, 0), (0.5, 1), (0.95, 2), (float("nan"), 0)]
)
def test_a_supervised_model_joins_as_one_more_detector(probability, action):
    supervised = DETECTORS["supervised"].build(
        {"review_at": 0.5, "block_at": 0.9}, Equipment(supervised=Classifier())
    )
    evidence = Evidence([], features={"density": probability})
    assert supervised.evaluate(evidence).action == action
    assert supervised.evaluate(Evidence([])).status is Status.MISSING_INPUTS


def test_without_a_supervised_model_the_detector_says_so():
    assert judge("supervised", features={"density": 1.0}).status is Status.MISSING_INPUTS


@pytest.mark.parametrize(
    ("role", "action"), [("sender", 2), ("contract called", 2), ("counterparty", 1)]
)
def test_a_listed_address_blocks_or_reviews_and_shows_the_lists_age(role, action):
    listed = ListMatches((KnownBad(CAROL, "drainer", role),), age_minutes=180.0)
    verdict = judge("known_bad_address", known_bad=listed)
    assert verdict.action == action
    assert CAROL in verdict.reason
    assert "drainer" in verdict.reason
    assert "3 hours ago" in verdict.reason


def test_nobody_listed_is_silent_and_no_list_is_said():
    assert not judge("known_bad_address", known_bad=ListMatches((), 1.0)).says_something
    assert judge("known_bad_address").status is Status.MISSING_INPUTS


def test_an_impersonated_token_is_reviewed():
    row = (UNKNOWN_TOKEN, ALICE, BOB, 5)
    fake = {UNKNOWN_TOKEN: TokenFact("UЅDC", impersonates=True)}
    assert judge("impersonated_token", row, tokens=fake).action is Action.REVIEW
    real = {USDC: TokenFact("USDC")}
    assert judge("impersonated_token", (USDC, ALICE, BOB, 5), tokens=real).action is Action.ALLOW


@pytest.mark.parametrize("dust", [[], [(USDC, FAKE, CAROL, 1)]], ids=["alone", "beside dust"])
def test_a_zero_transfer_out_of_a_strangers_account_is_poisoning(dust):
    verdict = judge("address_poisoning", (USDC, CAROL, FAKE, 0), *dust)
    assert verdict.action is Action.REVIEW
    assert "1 transfer of nothing" in verdict.reason


@pytest.mark.parametrize(
    "rows",
    [
        [(USDC, ALICE, CAROL, 0)],
        [(USDC, BOB, CAROL, 0)],
        [(USDC, ZERO_ADDRESS, CAROL, 0)],
        [(USDC, CAROL, ZERO_ADDRESS, 0)],
        [(USDC, CAROL, POOL, 0), (USDC, CAROL, BOB, 7)],
        [(USDC, CAROL, POOL, 7)],
    ],
    ids=["own", "contract called", "mint", "burn", "takes part", "not zero"],
)
def test_zero_transfers_with_a_part_in_the_transaction_are_not(rows):
    assert judge("address_poisoning", *rows).action is Action.ALLOW


def test_a_counterfeit_token_in_a_strangers_name_is_poisoning():
    fake = {UNKNOWN_TOKEN: TokenFact("USDT", impersonates=True)}
    verdict = judge("address_poisoning", (UNKNOWN_TOKEN, CAROL, FAKE, 10**6), tokens=fake)
    assert verdict.action is Action.REVIEW
    assert "counterfeit" in verdict.reason
    sale = [(UNKNOWN_TOKEN, CAROL, FAKE, 10**6), (USDC, POOL, CAROL, 10**6)]
    assert judge("address_poisoning", *sale, tokens=fake).action is Action.ALLOW


def test_the_least_number_of_zero_transfers_is_the_operators():
    rows = [(USDC, CAROL, FAKE, 0), (USDC, POOL, FAKE, 0)]
    for least, action in ((2, Action.REVIEW), (3, Action.ALLOW)):
        parameters = {"min_zero_transfers": least}
        assert judge("address_poisoning", *rows, parameters=parameters).action is action


def poisoned(*entries):
    """The verdict on the last of several transactions, each a (transfer row, sender)."""
    book = CounterpartyBook()
    for row, sender in entries:
        last = transfers(row)
        pairs = book.enter(last, sender)
    evidence = Evidence(last, sender=sender, to=USDC, look_alikes=pairs)
    return detector("address_poisoning").evaluate(evidence)


def test_a_trial_knows_the_counterparties_and_leaves_none_behind():
    book = CounterpartyBook()
    book.enter(transfers((USDC, ALICE, REAL, 10**9)), ALICE)
    before = len(book)
    trial = book.trial()
    assert len(trial.enter(transfers((USDC, FAKE, ALICE, 1)), FAKE)) == 1
    assert trial.enter(transfers((USDC, ALICE, FAKE, 10**9)), ALICE), "it remembers its own"
    assert len(book) == before
    assert book.enter(transfers((USDC, FAKE, ALICE, 1)), FAKE), "as if it had seen none of it"


def test_dust_from_a_look_alike_of_a_counterparty_is_reviewed():
    verdict = poisoned(((USDC, ALICE, REAL, 10**9), ALICE), ((USDC, FAKE, ALICE, 1), FAKE))
    assert verdict.action is Action.REVIEW
    assert FAKE in verdict.reason
    assert REAL in verdict.reason


def test_paying_the_look_alike_of_somebody_paid_before_is_blocked():
    verdict = poisoned(((USDC, ALICE, REAL, 10**9), ALICE), ((USDC, ALICE, FAKE, 10**9), ALICE))
    assert verdict.action is Action.BLOCK


def test_what_is_imitated_is_remembered_when_much_else_has_happened():
    book = CounterpartyBook(remembered=100)

    def enter(*row, sender):
        return book.enter(transfers(row), sender)

    def busy(start):
        for n in range(start, start + 500):
            enter(USDC, f"0x{n:040x}", POOL, 1, sender=POOL)

    enter(USDC, FAKE, ALICE, 1, sender=FAKE)  # unknown who of the two is genuine ...
    enter(USDC, REAL, ALICE, 10**9, sender=REAL)
    busy(1)
    enter(USDC, ALICE, REAL, 10**9, sender=ALICE)  # ... until she pays one
    busy(1_000)
    (pair,) = enter(USDC, ALICE, FAKE, 10**9, sender=ALICE)
    assert (pair.earlier, pair.earlier_was_paid, pair.account_pays) == (REAL, True, True)
    busy(2_000)
    assert not enter(USDC, ALICE, REAL, 10**9, sender=ALICE)
    assert len(book) <= 151


def test_the_genuine_counterparty_is_never_blocked_for_its_imitator():
    verdict = poisoned(
        ((USDC, ALICE, REAL, 10**9), ALICE),
        ((USDC, ALICE, FAKE, 0), BOB),
        ((USDC, ALICE, REAL, 10**9), ALICE),
    )
    assert verdict.action is Action.ALLOW


def test_an_imitator_seen_first_is_not_taken_for_the_genuine_one():
    verdict = poisoned(((USDC, FAKE, ALICE, 1), FAKE), ((USDC, ALICE, REAL, 10**9), ALICE))
    assert verdict.action is Action.REVIEW
    verdict = poisoned(
        ((USDC, FAKE, ALICE, 1), FAKE),
        ((USDC, ALICE, REAL, 10**9), ALICE),
        ((USDC, ALICE, FAKE, 10**9), ALICE),
    )
    assert verdict.action is Action.BLOCK


def test_addresses_that_differ_in_what_wallets_show_are_not_alike():
    other = FAKE[:-1] + "5"
    verdict = poisoned(((USDC, ALICE, REAL, 9), ALICE), ((USDC, ALICE, other, 9), ALICE))
    assert verdict.action is Action.ALLOW


@given(
    st.lists(
        st.tuples(st.just(USDC), *[st.sampled_from([ALICE, BOB, REAL, FAKE, ZERO_ADDRESS])] * 2,
                  st.integers(0, 2)), max_size=30,
    )
)  # fmt: skip
def test_the_book_stays_within_its_bound(rows):
    book = CounterpartyBook(remembered=4)
    for row in rows:
        for pair in book.enter(transfers(row), ALICE):
            assert pair.address != pair.earlier
        assert len(book) <= 5 + 2


@pytest.mark.parametrize(
    ("facts", "amount", "action"),
    [
        ({"nonce": 0}, 10**10, 1),
        ({"nonce": 2}, 10**10, 1),
        ({"nonce": 3}, 10**10, 0),
        ({"nonce": 0}, 10**9, 0),
        ({"account_age_minutes": 5.0}, 10**10, 1),
        ({"account_age_minutes": 5000.0}, 10**10, 0),
        ({"nonce": 900, "account_age_minutes": 5.0}, 10**10, 1),
    ],
)
def test_a_fresh_account_with_a_large_value_is_reviewed(facts, amount, action):
    row = (USDC, BOB, ALICE, amount)
    assert judge("fresh_account_large_value", row, **facts).action == action


def test_an_account_of_unknown_age_is_not_called_fresh():
    verdict = judge("fresh_account_large_value", (USDC, ALICE, BOB, 10**30))
    assert verdict.status is Status.MISSING_INPUTS


LOAN = (USDC, POOL, BOB, 1000)
REPAID = (USDC, BOB, POOL, 1001)


@pytest.mark.parametrize(
    ("rows", "action"),
    [
        ([LOAN, (UNKNOWN_TOKEN, CAROL, BOB, 9), REPAID, (USDC, CAROL, ALICE, 5)], 1),
        ([LOAN, (UNKNOWN_TOKEN, CAROL, ALICE, 9), (USDC, CAROL, BOB, 1), REPAID], 1),
        ([LOAN, (UNKNOWN_TOKEN, CAROL, BOB, 9), (USDC, BOB, POOL, 999)], 0),
        ([LOAN, (UNKNOWN_TOKEN, BOB, CAROL, 9), REPAID], 0),
        ([(USDC, ALICE, POOL, 5), (UNKNOWN_TOKEN, POOL, ALICE, 9), (USDC, BOB, CAROL, 1)], 0),
        ([(USDC, BOB, BOB, 5), (USDC, BOB, BOB, 5), (UNKNOWN_TOKEN, CAROL, ALICE, 9)], 0),
    ],
    ids=["profit in kind", "profit to the sender", "not repaid", "no profit", "swap", "to itself"],
)
def test_a_repaid_loan_with_profit_is_reviewed(rows, action):
    assert judge("flash_loan_profit", *rows).action == action


def token(number):
    return f"0x{number:040x}"


def test_an_account_that_only_loses_is_drained():
    rows = [(token(n), CAROL, ALICE, 10) for n in range(1, 4)]
    assert judge("drained_account", *rows).action is Action.REVIEW
    assert judge("drained_account", *rows[:2]).action is Action.ALLOW
    assert judge("drained_account", *rows, (USDC, ALICE, CAROL, 1)).action is Action.ALLOW
    assert judge("drained_account", *rows, sender=CAROL).action is Action.ALLOW
    withdrawal = [*rows, (USDC, ALICE, ZERO_ADDRESS, 10)]  # burns shares of a pool
    assert judge("drained_account", *withdrawal).action is Action.ALLOW
    redeemed = [(moved, ALICE, ZERO_ADDRESS, amount) for moved, _, _, amount in rows]
    assert judge("drained_account", *rows, *redeemed).action is Action.REVIEW  # with the loot


ROBBED = [(USDC, token(n), POOL, 10) for n in range(1, 5)]
"""Allowances that four users gave the router that the sender calls."""

RECEIPTS = [(UNKNOWN_TOKEN, ZERO_ADDRESS, token(n), 1) for n in (11, 12)]
VAULTS = [
    *[(token(n + 20), token(n + 1), ZERO_ADDRESS, 10) for n in range(1, 6)],  # shares of the next
    *[(USDC, token(n + 1), token(n), 10) for n in range(1, 6)],
]
"""A vault pays out of another, which pays out of another."""


@pytest.mark.parametrize(
    ("rows", "facts", "action"),
    [
        (ROBBED, {}, 1),
        (ROBBED, {"nonce": 1000}, 1),
        ([*ROBBED, (USDC, POOL, ALICE, 40)], {}, 1),
        ([*ROBBED, (USDC, POOL, ALICE, 20), (USDC, POOL, CAROL, 20)], {}, 0),  # two share it
        ([*ROBBED, *[(USDC, token(n), CAROL, 9) for n in range(11, 16)]], {}, 1),
        (ROBBED[1:], {}, 0),
        ([*ROBBED, *RECEIPTS], {}, 1),
        ([*ROBBED, (UNKNOWN_TOKEN, token(11), token(12), 1)], {}, 0),  # a payment beside
        (VAULTS, {}, 0),
        ([*ROBBED, (UNKNOWN_TOKEN, ALICE, ZERO_ADDRESS, 1)], {}, 0),
        ([*ROBBED, (USDC, token(6), POOL, 1), (UNKNOWN_TOKEN, ALICE, ZERO_ADDRESS, 1)], {}, 1),
        (ROBBED, {"nonce": 1001}, 0),  # an exchange collects deposits
        (ROBBED, {"sender": token(1)}, 0),
        (ROBBED, {"to": token(1)}, 0),
        ([*ROBBED, (UNKNOWN_TOKEN, ALICE, token(1), 10)], {}, 0),  # one is paid
        ([(USDC, token(n), token(n + 10), 10) for n in range(1, 6)], {}, 0),  # payments
        ([(USDC, token(n), ZERO_ADDRESS, 10) for n in range(1, 6)], {}, 0),  # burnt
        (ROBBED, {"unknown_tokens": frozenset({USDC})}, 1),  # where nothing else moves
    ],
)
def test_many_accounts_that_lose_to_few_are_drained(rows, facts, action):
    verdict = judge("drained_account", *rows, **facts)
    assert verdict.action == action
    assert not action or "accounts that have not signed lose tokens to " in verdict.reason
    assert not action or "nothing (without internal transfers of ETH, which" in verdict.reason


AFFILIATE, OPERATOR = token(98), token(99)
SHARED = [(USDC, CAROL, OPERATOR, 20_000_000), (USDC, CAROL, AFFILIATE, 80_000_000)]


@pytest.mark.parametrize(
    ("rows", "action"),
    [
        (SHARED, 1),
        ([(USDC, CAROL, BOB, 100_000_000), *[(t, BOB, *rest) for t, _, *rest in SHARED]], 1),
        ([*SHARED, (USDC, CAROL, POOL, 1)], 0),  # three shares
        ([*SHARED, (token(1), POOL, CAROL, 5)], 0),  # the account gets something
        ([*SHARED, (token(1), AFFILIATE, POOL, 5)], 0),  # one of the two gives something
        ([*SHARED, *[(token(n), POOL, BOB, 5) for n in range(1, 20)]], 0),  # many transfers
        ([(USDC, CAROL, OPERATOR, 20_000_003), SHARED[1]], 0),  # no round share
        ([(USDC, CAROL, OPERATOR, 20), (USDC, CAROL, AFFILIATE, 80)], 0),  # any would be round
        ([(USDC, CAROL, OPERATOR, 50_000_000), (USDC, CAROL, AFFILIATE, 50_000_000)], 0),
        ([(USDC, CAROL, OPERATOR, 2_500_000), (USDC, CAROL, AFFILIATE, 97_500_000)], 0),  # a fee
    ],
)
def test_tokens_shared_out_as_drainers_do_are_reviewed(rows, action):
    assert judge("drainer_split", *rows).action == action


@pytest.mark.parametrize("sender", [CAROL, OPERATOR, AFFILIATE, None])
def test_who_takes_part_or_may_is_no_drainer_or_victim(sender):
    assert not judge("drainer_split", *SHARED, sender=sender).action


def test_the_reason_of_a_split_names_both_shares():
    reason = judge("drainer_split", *SHARED).reason
    unknown = "(without internal transfers of ETH, which are unknown)"
    assert f"{CAROL} loses token {USDC}, gets nothing for it {unknown} and has not" in reason
    assert f"{OPERATOR} gets 20.0% of it and {AFFILIATE} the rest" in reason


VALUES = {USDC: 4e-10}


@pytest.mark.parametrize(
    ("row", "changes", "action"),
    [
        ((USDC, CAROL, BOB, 5_000_000), {}, 1),
        ((USDC, CAROL, ALICE, 5_000_000), {}, 1),  # to the sender itself
        ((USDC, CAROL, BOB, 5_000_000), {"nonce": 1_000}, 1),
        ((USDC, CAROL, BOB, 5_000_000), {"nonce": 1_001}, 0),  # an exchange
        ((USDC, CAROL, BOB, 5_000_000), {"nonce": None}, 0),
        ((USDC, CAROL, BOB, 5_000_000), {"sender": None}, 0),
        ((USDC, CAROL, BOB, 5_000_000), {"to": POOL}, 0),  # through a contract
        ((USDC, CAROL, BOB, 5_000_000), {"values": {}}, 0),
        ((USDC, ALICE, BOB, 5_000_000), {}, 0),  # its own
        ((USDC, CAROL, CAROL, 5_000_000), {}, 0),
        ((USDC, CAROL, BOB, 0), {}, 0),
        ((USDC, ZERO_ADDRESS, BOB, 5_000_000), {}, 0),  # minted
        ((USDC, CAROL, ZERO_ADDRESS, 5_000_000), {}, 0),  # burnt
        ((USDC, USDC, BOB, 5_000_000), {}, 0),  # what the token itself has
    ],
)
def test_a_sender_that_spends_anothers_allowance_is_reviewed(row, changes, action):
    facts = {"sender": ALICE, "to": USDC, "nonce": 7, "values": VALUES, **changes}
    verdict = detector("approval_phishing").evaluate(Evidence(transfers(row), **facts))
    assert verdict.action == action


def test_an_allowance_beside_other_transfers_is_left_alone():
    rows = transfers((USDC, CAROL, BOB, 5_000_000), (USDC, CAROL, POOL, 5_000_000))
    evidence = Evidence(rows, sender=ALICE, to=USDC, nonce=7, values=VALUES)
    assert not detector("approval_phishing").evaluate(evidence).action


def test_a_mint_out_of_proportion_is_reviewed():
    mint = (USDC, ZERO_ADDRESS, ALICE, 10**11)
    assert judge("disproportionate_mint", mint).action is Action.REVIEW
    assert judge("disproportionate_mint", (USDC, ZERO_ADDRESS, ALICE, 10**9)).action is Action.ALLOW
    assert judge("disproportionate_mint", (USDC, BOB, ALICE, 10**11)).action is Action.ALLOW
    burnt = (USDC, ALICE, ZERO_ADDRESS, 10**11)
    assert judge("disproportionate_mint", mint, burnt).action is Action.ALLOW


accounts = st.sampled_from([ALICE, BOB, CAROL, POOL, ZERO_ADDRESS, REAL, FAKE])
any_transfers = st.lists(
    st.tuples(
        st.sampled_from([USDC, UNKNOWN_TOKEN]), accounts, accounts, st.integers(0, 2**256 - 1)
    ),
    max_size=12,
)


@pytest.mark.parametrize("name", sorted(DETECTORS))
@given(rows=any_transfers, sender=st.none() | accounts, to=st.none() | accounts)
def test_no_transaction_makes_a_detector_raise_or_change_its_mind(name, rows, sender, to):
    first = judge(name, *rows, sender=sender, to=to, nonce=0)
    assert first == judge(name, *rows, sender=sender, to=to, nonce=0)
    assert first.detector == name
    assert not first.shadow
