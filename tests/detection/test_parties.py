"""Rules see parties, not accounts: what an attacker can write or rename for cents changes none."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Equipment
from src.detection.detectors.flash_loan_profit import _repayment
from src.detection.evidence import Evidence
from src.detection.forest.manifest import TokenAmounts
from src.detection.parties import FLASH_MINT, parties_of
from src.detection.policy import Condition, Match, Scope, parse_policy
from src.detection.records import NATIVE, ZERO_ADDRESS, Action, Status
from src.detection.suite import DetectorSuite


class Moved(NamedTuple):
    token: str
    sender: str
    recipient: str
    amount: int


def account(number: int) -> str:
    return f"0x{number:040x}" if number else ZERO_ADDRESS


ACCOUNTS = [account(number) for number in range(7)]
SENDER, HUB, LENDER, POOL, VICTIM, OTHER = ACCOUNTS[1:]
WETH, GOLD, IRON, TIN = tokens = [f"0x{number:040x}" for number in range(100, 104)]
OWN = "0x" + "dd" * 20
VALUES = {WETH: 1.0}
RULES = ["flash_loan_profit", "drained_account", "address_poisoning", "fresh_account_large_value",
         "disproportionate_mint", "impersonated_token"]  # fmt: skip
POLICY = "version: 1\ndetectors:\n" + "".join(f"  {name}: on\n" for name in RULES)
SUITE = DetectorSuite.from_policy(
    parse_policy(POLICY), 1, Equipment(token_amounts={WETH: TokenAmounts(1.0, 0.1)})
)
LOAN = [
    Moved(WETH, LENDER, HUB, 1000),
    Moved(WETH, HUB, POOL, 1000),
    Moved(GOLD, POOL, HUB, 70),
    Moved(WETH, VICTIM, HUB, 1100),
    Moved(WETH, HUB, LENDER, 1000),
    Moved(WETH, HUB, SENDER, 100),
]

moves = st.builds(
    Moved,
    st.sampled_from(tokens),
    st.sampled_from(ACCOUNTS),
    st.sampled_from(ACCOUNTS),
    st.one_of(st.integers(0, 5), st.sampled_from([99, 100, 10_000])),
)
histories = st.one_of(
    st.lists(moves, min_size=1, max_size=10),
    st.lists(moves, max_size=4).map(lambda more: [*LOAN[:4], *more, *LOAN[4:]]),
)


class Ether(NamedTuple):
    sender: str
    recipient: str
    amount: int


def evidence_of(transfers: Sequence[Moved], unknown: Sequence[str] = (), **facts) -> Evidence:
    usual = {"sender": SENDER, "to": HUB, "nonce": 7}
    return Evidence(transfers, unknown_tokens=frozenset(unknown), values=VALUES, **(usual | facts))


def actions(transfers: Sequence[Moved], **facts) -> dict[str, Action]:
    """What each rule asks for; the silent ones are left out."""
    verdicts = SUITE.decide(evidence_of(transfers, **facts)).reasons
    assert not [v for v in verdicts if v.status is Status.FAILED]
    return {verdict.detector: verdict.action for verdict in verdicts if verdict.action}


# What changes no rule


@settings(max_examples=200)
@given(
    histories,
    st.lists(
        st.tuples(
            st.integers(0, 10),
            st.builds(
                Moved, st.just(OWN), st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS),
                st.integers(0, 2**256 - 1),
            ),
        ),
        max_size=5,
    ),
)  # fmt: skip
@example(LOAN, [(0, Moved(OWN, SENDER, OTHER, 10**18))])
def test_events_of_tokens_without_a_reputation_change_no_rule(
    transfers: list[Moved], events: list[tuple[int, Moved]]
) -> None:
    with_events = list(transfers)
    for place, event in events:
        with_events.insert(place, event)
    before = SUITE.decide(evidence_of(transfers, nonce=0))
    assert SUITE.decide(evidence_of(with_events, [OWN], nonce=0)) == before


@settings(max_examples=200)
@given(histories, st.sets(st.integers(0, 10), max_size=4), st.integers(1, 3))
@example(LOAN, {0, 1, 2, 3, 4}, 2)
def test_relays_between_any_two_accounts_change_no_rule(
    transfers: list[Moved], through: set[int], relays: int
) -> None:
    relayed: list[Moved] = []
    for at, (token, payer, payee, amount) in enumerate(transfers):
        if at not in through or amount == 0 or payer == payee:
            relayed.append(transfers[at])
            continue
        stops = [payer, *(account(1000 + 10 * at + n) for n in range(relays)), payee]
        relayed += [Moved(token, *leg, amount) for leg in pairwise(stops)]
    assert actions(relayed, nonce=0) == actions(transfers, nonce=0)


@settings(max_examples=150)
@given(histories, st.permutations(range(1, 7)))
def test_renamed_accounts_change_nothing_but_names(
    transfers: list[Moved], order: list[int]
) -> None:
    names = {ZERO_ADDRESS: ZERO_ADDRESS}
    names |= {account(n): account(5000 + at) for n, at in zip(range(1, 7), order, strict=True)}
    renamed = [m._replace(sender=names[m.sender], recipient=names[m.recipient]) for m in transfers]
    before = SUITE.decide(evidence_of(transfers, nonce=0))
    after = SUITE.decide(evidence_of(renamed, nonce=0, sender=names[SENDER], to=names[HUB]))
    assert [(v.detector, v.action) for v in after.reasons] == [
        (v.detector, v.action) for v in before.reasons
    ]
    if not {SENDER, HUB} - {m.sender for m in transfers}:  # else names that nobody bears differ
        texts = [v.reason for v in before.reasons]
        for old, new in names.items():
            texts = [text.replace(old, new) for text in texts]
        assert [v.reason for v in after.reasons] == texts


def test_an_account_for_each_dealing_changes_no_rule() -> None:
    """Each keeps a little: who passes on all that it gets is a relay, and belongs to nobody."""
    borrower, buyer, taker = (account(number) for number in (201, 202, 203))
    split = [
        Moved(WETH, LENDER, borrower, 1000),
        Moved(WETH, borrower, POOL, 999),
        Moved(GOLD, POOL, buyer, 70),
        Moved(WETH, VICTIM, taker, 1100),
        Moved(WETH, taker, LENDER, 1000),
        Moved(WETH, taker, SENDER, 99),
    ]
    assert actions(split) == actions(LOAN) == {"flash_loan_profit": Action.REVIEW}


@pytest.mark.parametrize("more", [[], [Moved(WETH, account(300), account(301), 1)]])
def test_a_drain_by_relays_is_one(more: list[Moved]) -> None:
    taken = [Moved(token, VICTIM, account(400 + at), 10_000) for at, token in enumerate(tokens)]
    passed = [Moved(m.token, m.recipient, SENDER, m.amount) for m in taken]
    assert actions([*taken, *passed, *more]) == {"drained_account": Action.REVIEW}


def test_dust_to_the_victim_is_no_payment_and_dust_from_the_sender_no_loss() -> None:
    drain = [Moved(token, VICTIM, SENDER, 10_000) for token in (WETH, GOLD, IRON)]
    dust = Moved(WETH, SENDER, VICTIM, 1)
    assert actions([*drain[1:], dust, Moved(TIN, VICTIM, SENDER, 9), drain[0]])
    assert actions([*drain[1:], Moved(WETH, SENDER, VICTIM, 20_000), drain[0]]) == {}
    assert actions([*LOAN, Moved(WETH, SENDER, OTHER, 2)]) == actions(LOAN)
    assert actions([*LOAN, Moved(IRON, SENDER, OTHER, 2)]) == {}  # nobody knows what IRON is worth


# The records themselves


def test_where_only_unknown_tokens_move_they_count() -> None:
    transfers = [move._replace(token=OWN) for move in LOAN]
    assert evidence_of(transfers, [OWN]).credible_transfers == transfers
    assert evidence_of([*transfers, LOAN[0]], [OWN]).credible_transfers == [LOAN[0]]


def test_a_flash_mint_is_a_loan_and_its_lender_no_account() -> None:
    minted = [
        Moved(WETH, ZERO_ADDRESS, HUB, 1000), *LOAN[1:4], Moved(WETH, HUB, ZERO_ADDRESS, 1000),
    ]  # fmt: skip
    found = parties_of(minted, SENDER, VALUES)
    assert found.dealings[0].sender == found.dealings[-1].recipient == FLASH_MINT + WETH
    assert set(found.balances) == {HUB, POOL, VICTIM}
    (verdict,) = SUITE.decide(evidence_of(minted)).reasons
    assert verdict.reason == (
        f"{HUB} repays token {WETH} to the zero address (a flash mint) within the transaction, and "
        "the sender's side ends richer of 2 tokens and poorer of none"
    )


def test_balances_of_parties_are_exact() -> None:
    huge = 2**255 + 1
    transfers = [Moved(WETH, LENDER, HUB, huge), Moved(WETH, HUB, VICTIM, 2**254 - 1)]
    assert parties_of(transfers, SENDER, VALUES).balances == {
        LENDER: {WETH: -huge}, HUB: {WETH: 2**254 + 2}, VICTIM: {WETH: 2**254 - 1},
    }  # fmt: skip


@given(histories)
def test_balances_and_loans_are_those_of_the_dealings(transfers: list[Moved]) -> None:
    found = parties_of(transfers, SENDER, VALUES)
    assert found.deal_back or _repayment(found.dealings) is None
    balances: dict[str, dict[str, int]] = {}
    for dealing in found.dealings:
        for party, change in (
            (dealing.sender, -dealing.amount),
            (dealing.recipient, dealing.amount),
        ):
            changes = balances.setdefault(party, {})
            changes[dealing.token] = changes.get(dealing.token, 0) + change
    no_party = (ZERO_ADDRESS, FLASH_MINT)
    assert found.balances == {p: c for p, c in balances.items() if not p.startswith(no_party)}


# Scopes that ask what the sender pays


@pytest.mark.parametrize(
    ("paid", "applies"),
    [
        ([], False),
        ([Moved(OWN, SENDER, OTHER, 10**18)], False),  # its token is its own
        ([Moved(GOLD, SENDER, OTHER, 10**18)], False),  # nobody knows what that is worth
        ([Moved(WETH, SENDER, OTHER, 101)], False),  # 100 of them are its loot
        ([Moved(WETH, SENDER, OTHER, 300)], True),
    ],
)
def test_a_scope_may_ask_that_the_sender_pays(paid: list[Moved], applies: bool) -> None:
    scope = Scope(
        "routers", "why", frozenset({"flash_loan_profit"}), Match.TO, frozenset({HUB}),
        only_if=Condition.SENDER_PAYS,
    )  # fmt: skip
    suite = DetectorSuite([DETECTORS["flash_loan_profit"].build({"min_transfers": 3}, Equipment())],
                          scopes=[scope])  # fmt: skip
    evidence = evidence_of([*paid, *LOAN], [OWN])
    assert evidence.sender_pays == applies
    statuses = [verdict.status for verdict in suite.decide(evidence).reasons]
    assert (statuses == [Status.OUT_OF_SCOPE]) == applies


# The native currency


def test_value_sent_along_is_stated_where_internal_transfers_are_unknown() -> None:
    def reason(**facts) -> str:
        (verdict,) = SUITE.decide(evidence_of(LOAN, wrapped_native=WETH, **facts)).reasons
        return verdict.reason

    assert "sent" not in reason(value=0)
    told = "the sender has sent 171.612 ETH along, and whether that came back is unknown"
    assert reason(value=171_612_217_073_962_056_313).endswith(told)
    back = [Ether(SENDER, HUB, 50), Ether(HUB, SENDER, 50)]
    assert reason(value=50, native=back).endswith("poorer of none")


def test_native_value_that_is_known_to_be_spent_is_a_loss() -> None:
    spent = [Ether(SENDER, HUB, 500), Ether(HUB, OTHER, 500)]
    assert actions(LOAN) == {"flash_loan_profit": Action.REVIEW}
    assert actions(LOAN, value=500, native=spent, wrapped_native=WETH) == {}
    trifle = [Ether(HUB, OTHER, 5)]  # next to a transfer of 1,100
    assert actions(LOAN, native=trifle, wrapped_native=WETH) == {"flash_loan_profit": Action.REVIEW}


def test_a_gain_in_native_currency_is_a_gain() -> None:
    loan = [LOAN[0], Moved(GOLD, POOL, HUB, 70), Moved(GOLD, HUB, POOL, 70), LOAN[4]]
    assert actions(loan) == {}
    assert actions(loan, native=[Ether(POOL, HUB, 90)]) == {"flash_loan_profit": Action.REVIEW}


def test_unwrapping_moves_nothing_but_the_kind_of_currency() -> None:
    unwrapped = [Ether(WETH, HUB, 100), Ether(HUB, SENDER, 100)]
    held = LOAN[:-1]  # the loot stays with the hub, or leaves as native currency
    kept = parties_of(held, SENDER, VALUES)
    found = kept.balances_with_native(unwrapped, WETH)
    assert kept.agent is not None
    assert found[kept.agent][WETH] == 0
    assert found[SENDER][NATIVE] == 100
    wrapped = kept.balances_with_native([Ether(HUB, WETH, 30)], WETH)
    assert (wrapped[kept.agent][WETH], wrapped[kept.agent][NATIVE]) == (130, -30)
    assert WETH not in found


def test_wrapping_that_the_token_logs_counts_once() -> None:
    """As on Arbitrum. A transfer of another amount to the zero address hides no unwrapping."""
    native = [Ether(HUB, WETH, 30), Ether(WETH, OTHER, 7)]
    logged = [Moved(WETH, ZERO_ADDRESS, HUB, 30), Moved(WETH, OTHER, ZERO_ADDRESS, 7)]
    free = [Moved(WETH, OTHER, ZERO_ADDRESS, 1)]
    for moved, left in ((logged, {HUB: 30, OTHER: -7}), (free, {HUB: 30, OTHER: -8})):
        evidence = Evidence(moved, sender=SENDER, native=native, wrapped_native=WETH)
        assert {one: found[WETH] for one, found in evidence.gains.others.items()} == left
        balances = evidence.balances_with_native
        assert {one: balances[one][WETH] for one in left} == left


@given(histories, st.lists(st.builds(Ether, *[st.sampled_from(ACCOUNTS)] * 2, st.integers(0, 99))))
def test_native_transfers_sum_to_nothing_and_change_no_token(
    transfers: list[Moved], native: list[Ether]
) -> None:
    found = parties_of(transfers, SENDER, VALUES)
    after = found.balances_with_native(native, None)
    minted = sum(m.amount for m in native if m.sender == ZERO_ADDRESS)
    burnt = sum(m.amount for m in native if m.recipient == ZERO_ADDRESS)
    assert sum(own.get(NATIVE, 0) for own in after.values()) == minted - burnt
    for party, changes in found.balances.items():
        assert {t: n for t, n in after[party].items() if t != NATIVE} == changes


# Whose gain it is


def test_what_the_sender_pays_the_contract_that_it_calls_is_no_gain_of_its_side() -> None:
    deposit = [Moved(GOLD, SENDER, HUB, 20), Moved(GOLD, VICTIM, HUB, 15)]
    gains = evidence_of(deposit).gains
    assert (gains.side, gains.own) == ({SENDER}, {GOLD: -20})
    assert gains.others[HUB] == {GOLD: 35}
    # A thief that funds its contract with a little of what it takes is still richer by it.
    theft = [Moved(GOLD, SENDER, HUB, 20), Moved(GOLD, VICTIM, HUB, 1_500)]
    assert evidence_of(theft).gains.own == {GOLD: 1_500}
    # Nor is what comes back through a circle of pools a payment.
    circle = [
        Moved(WETH, SENDER, POOL, 50),
        Moved(GOLD, POOL, OTHER, 9),
        Moved(WETH, OTHER, HUB, 51),
    ]
    assert evidence_of(circle).gains.own == {WETH: 1}


def test_native_currency_that_the_contract_called_keeps_is_no_gain_of_the_sender_s_side() -> None:
    gains = evidence_of([], native=[Ether(SENDER, HUB, 9)]).gains
    assert (gains.own, gains.others) == ({NATIVE: -9}, {HUB: {NATIVE: 9}})


ROUTER = "0x" + "ee" * 20
FEE_SALE = [
    Moved(IRON, TIN, POOL, 6),  # the token IRON sells its own fees by a router ...
    Moved(WETH, POOL, ROUTER, 12),
    Moved(IRON, TIN, POOL, 1),
    Moved(WETH, ROUTER, POOL, 2),
    Moved(IRON, HUB, POOL, 500),  # ... while others trade with the pool
    Moved(WETH, POOL, HUB, 900),
]


def test_what_a_router_gets_for_what_others_sell_is_no_gain_of_the_sender_s_side() -> None:
    gains = evidence_of(FEE_SALE, routers=frozenset({ROUTER})).gains
    assert ROUTER not in gains.side
    assert gains.own == {}
    assert gains.others[ROUTER] == {WETH: 10}
    # By itself, an account that gets what others sell may be the thief's.
    assert evidence_of(FEE_SALE).gains.own == {WETH: 10}


@pytest.mark.parametrize(
    "sale",
    [
        [
            Moved(IRON, VICTIM, HUB, 500),
            Moved(IRON, HUB, POOL, 500),
            Moved(WETH, POOL, ROUTER, 92),
            Moved(WETH, ROUTER, POOL, 2),
        ],
        [
            Moved(IRON, VICTIM, HUB, 500),
            Moved(IRON, HUB, POOL, 500),
            Moved(TIN, POOL, OTHER, 7),
            Moved(WETH, OTHER, ROUTER, 92),
            Moved(WETH, ROUTER, OTHER, 2),
        ],
        [Moved(WETH, VICTIM, ROUTER, 92), Moved(WETH, ROUTER, VICTIM, 2)],
    ],
    ids=["loot sold", "loot sold over two pools", "taken"],
)
def test_loot_that_a_router_turns_into_native_currency_is_the_sender_s_gain(
    sale: list[Moved],
) -> None:
    assert evidence_of(sale, routers=frozenset({ROUTER})).gains.own == {WETH: 90}


@settings(max_examples=200)
@given(histories, st.sets(st.sampled_from(ACCOUNTS)))
def test_whose_gain_it_is_loses_no_unit(transfers: list[Moved], routers: set[str]) -> None:
    gains = evidence_of(transfers, routers=frozenset(routers)).gains
    total = dict(gains.own)
    for changes in gains.others.values():
        for token, change in changes.items():
            total[token] = total.get(token, 0) + change
    everybody = evidence_of(transfers).gains
    assert SENDER in gains.side
    for token in tokens:
        minted = sum(
            moved.amount * ((moved.sender == ZERO_ADDRESS) - (moved.recipient == ZERO_ADDRESS))
            for moved in transfers
            if moved.token == token
        )
        assert total.get(token, 0) == minted
    assert gains.side <= everybody.side
