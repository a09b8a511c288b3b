"""The decision is the most drastic counting verdict: nothing that is added can lower it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.detection.evidence import Evidence
from src.detection.policy import Match, Scope
from src.detection.records import Action, Status, Verdict, decide
from src.detection.suite import DetectorSuite
from tests.conftest import ALICE, BOB

names = st.sampled_from(["forest", "list", "poisoning", "loan"])
decided = st.builds(
    Verdict, names, st.sampled_from(Action), st.text(max_size=5), shadow=st.booleans()
)
undecided = st.builds(
    Verdict,
    names,
    reason=st.text(max_size=5),
    status=st.sampled_from([s for s in Status if s is not Status.DECIDED]),
    shadow=st.booleans(),
)
verdicts = st.lists(decided | undecided, max_size=6)


class Saying:
    """A detector that says what it is told to, or fails."""

    def __init__(self, name, action):
        self.NAME = name
        self._action = action

    def evaluate(self, evidence):
        if self._action is None:
            raise KeyError("secret")
        return Verdict(self.NAME, self._action, "because")


EVIDENCE = Evidence(transfers=(), sender=ALICE, to=BOB)


def test_actions_are_ordered_by_severity():
    assert [int(action) for action in Action] == [0, 1, 2]
    assert max(Action) is Action.BLOCK


def test_nothing_to_say_is_allow():
    assert decide([]).action is Action.ALLOW
    assert DetectorSuite([]).decide(EVIDENCE).action is Action.ALLOW
    assert DetectorSuite([]).decide(EVIDENCE).reasons == ()


@given(verdicts, decided | undecided)
def test_another_verdict_never_lowers_the_decision(given_verdicts, another):
    before = decide(given_verdicts)
    after = decide([*given_verdicts, another])
    assert after.action >= before.action
    if not another.shadow:
        assert after.action == max(before.action, another.action)


@given(verdicts, st.data())
def test_a_raised_verdict_never_lowers_the_decision(given_verdicts, data):
    counting = [i for i, v in enumerate(given_verdicts) if v.status is Status.DECIDED]
    if not counting:
        return
    index = data.draw(st.sampled_from(counting))
    old = given_verdicts[index]
    higher = data.draw(st.sampled_from([a for a in Action if a >= old.action]))
    raised = list(given_verdicts)
    raised[index] = Verdict(old.detector, higher, old.reason, shadow=old.shadow)
    assert decide(raised).action >= decide(given_verdicts).action


@given(verdicts, st.randoms())
def test_order_does_not_matter(given_verdicts, random):
    shuffled = list(given_verdicts)
    random.shuffle(shuffled)
    assert decide(shuffled) == decide(given_verdicts)


@given(verdicts)
def test_shadow_verdicts_never_change_the_decision_and_are_recorded(given_verdicts):
    decision = decide(given_verdicts)
    without = decide([v for v in given_verdicts if not v.shadow])
    assert (decision.action, decision.reasons) == (without.action, without.reasons)
    loud = [v for v in given_verdicts if v.shadow and v.says_something]
    assert sorted(decision.shadow, key=str) == sorted(loud, key=str)


@given(verdicts)
def test_the_first_reason_is_the_deciding_one(given_verdicts):
    decision = decide(given_verdicts)
    if decision.action > Action.ALLOW:
        assert decision.reasons[0].status is Status.DECIDED
        assert decision.reasons[0].action is decision.action
    assert decision.action == max(
        (v.action for v in given_verdicts if not v.shadow), default=Action.ALLOW
    )


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.DECIDED])
def test_who_has_not_decided_cannot_ask_for_anything(status):
    with pytest.raises(ValueError, match="cannot ask"):
        Verdict("forest", Action.REVIEW, status=status)


@given(
    st.lists(
        st.tuples(names, st.sampled_from([*Action, None])), max_size=5, unique_by=lambda p: p[0]
    )
)
def test_a_detector_that_fails_is_named_and_costs_nothing(members):
    whole = DetectorSuite([Saying(*member) for member in members]).decide(EVIDENCE)
    working = DetectorSuite([Saying(*m) for m in members if m[1] is not None]).decide(EVIDENCE)
    assert whole.action is working.action
    failed = {v.detector for v in whole.reasons if v.status is Status.FAILED}
    assert failed == {name for name, action in members if action is None}
    assert all(v.reason == "KeyError" for v in whole.reasons if v.status is Status.FAILED)


class Asking(Saying):
    """A detector that asks for what an account holds, or fails."""

    def holdings(self, evidence):
        if self._action is None:
            raise KeyError("secret")
        return [(evidence.sender, self.NAME)]


def test_a_detector_that_fails_to_ask_costs_the_others_nothing():
    suite = DetectorSuite([Asking("broken", None), Asking("rule", Action.REVIEW)])
    assert suite.holdings(EVIDENCE) == [(ALICE, "rule")]


def test_a_shadow_detector_is_recorded_apart():
    decision = DetectorSuite([Saying("rule", Action.REVIEW)], [Saying("new", Action.BLOCK)]).decide(
        EVIDENCE
    )
    assert decision.action is Action.REVIEW
    assert [(v.detector, v.action, v.shadow) for v in decision.shadow] == [
        ("new", Action.BLOCK, True)
    ]


def scope(match=Match.EITHER, address=ALICE, detectors=("rule",)):
    return Scope("friends", "we know them", frozenset(detectors), match, frozenset([address]))


@pytest.mark.parametrize(
    ("chosen", "applies"),
    [
        (scope(), True),
        (scope(Match.SENDER), True),
        (scope(Match.TO), False),
        (scope(Match.TO, BOB), True),
        (scope(Match.SENDER, BOB), False),
        (scope(address="0x" + "00" * 20), False),
    ],
)
def test_a_scope_switches_off_its_own_detector_and_says_so(chosen, applies):
    suite = DetectorSuite(
        [Saying("rule", Action.BLOCK), Saying("other", Action.REVIEW)], scopes=[chosen]
    )
    decision = suite.decide(EVIDENCE)
    assert decision.action is (Action.REVIEW if applies else Action.BLOCK)
    out = [v for v in decision.reasons if v.status is Status.OUT_OF_SCOPE]
    assert [v.reason for v in out] == ["friends: we know them"] * applies


def test_a_detector_out_of_scope_asks_for_nothing():
    detectors = [Asking("rule", Action.BLOCK), Asking("other", Action.REVIEW)]
    suite = DetectorSuite(detectors, scopes=[scope()])
    assert suite.holdings(EVIDENCE) == [(ALICE, "other")]
