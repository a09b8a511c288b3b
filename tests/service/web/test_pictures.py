"""Everything drawn stays inside its picture and says what it leaves out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.service.web import charts, flow
from src.service.web.models import stability_index

ADDRESSES = ["0x" + f"{i:02x}" * 20 for i in range(1, 13)]

transfers = st.lists(
    st.builds(
        Transfer,
        token=st.sampled_from(ADDRESSES),
        sender=st.sampled_from([*ADDRESSES, ZERO_ADDRESS]),
        recipient=st.sampled_from([*ADDRESSES, ZERO_ADDRESS]),
        amount=st.integers(0, 2**256 - 1),
        log_index=st.integers(0, 10_000),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(transfers)
def test_every_account_has_a_place_of_its_own_in_the_flow(moved: list[Transfer]) -> None:
    drawn = flow.lay_out(moved, {}, sender=ADDRESSES[0], to=ADDRESSES[1])
    assert {box.address for box in drawn.boxes} == {
        a for t in moved for a in (t.sender, t.recipient)
    }
    assert len({(t.sender, t.recipient, t.token) for t in moved}) == len(drawn.arrows) + (
        0 if not drawn.left_out else drawn.left_out
    )
    for box in drawn.boxes:
        assert 0 <= box.x <= box.x + box.width <= drawn.width
        assert 0 <= box.y <= box.y + box.height <= drawn.height
        for other in drawn.boxes:
            if other is not box and other.x == box.x:
                assert box.y + box.height < other.y or other.y + other.height < box.y


@settings(deadline=None)
@given(transfers)
def test_the_same_transfers_give_the_same_picture(moved: list[Transfer]) -> None:
    first = flow.lay_out(moved, {}, sender=None, to=None)
    assert flow.lay_out(list(moved), {}, sender=None, to=None) == first


def test_payers_stand_left_of_payees() -> None:
    a, b, c = ADDRESSES[:3]
    chain = [Transfer(a, a, b, 1, 0), Transfer(a, b, c, 1, 1), Transfer(a, c, a, 1, 2)]
    places = {box.address: box.x for box in flow.lay_out(chain, {}, sender=a, to=b).boxes}
    assert places[a] < places[b] < places[c]


def test_a_huge_transaction_is_drawn_in_part_and_says_so() -> None:
    many = [Transfer(ADDRESSES[0], ADDRESSES[0], f"0x{i:040x}", 1, i) for i in range(500)]
    drawn = flow.lay_out(many, {}, sender=None, to=None)
    assert len(drawn.boxes) == flow.MAX_ACCOUNTS
    assert drawn.left_out == 500 - flow.MAX_ACCOUNTS + 1


points = st.floats(0, 1e60)


@settings(deadline=None)
@given(st.lists(st.tuples(points, points), max_size=30))
def test_points_stay_inside_the_picture(values: list[tuple[float, float]]) -> None:
    chart = charts.log_log([(x, y, "usual", "", "") for x, y in values])
    for point in chart.points:
        assert chart.left <= point.x <= chart.right
        assert chart.top <= point.y <= chart.bottom


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=50, max_size=50), st.floats(0, 1))
def test_histogram_bars_stay_inside_the_picture(counts: list[int], marker: float) -> None:
    expected = charts.expected_shares([0.33, 0.34, 0.7], 50)
    chart = charts.histogram(counts, expected, marker=marker, marker_label="threshold")
    for bar in chart.bars:
        assert chart.left <= bar.x <= bar.x + bar.width <= chart.right + 1e-6
        assert chart.top - 1e-6 <= bar.y <= bar.y + bar.height <= chart.bottom + 1e-6


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_stacked_bars_are_as_high_as_their_counts(counts: list[int]) -> None:
    chart = charts.stacked_bars([("", {"Low": count, "High": count}) for count in counts], ["Low"])
    heights = [bar.height for bar in chart.bars]
    assert len(heights) == sum(count > 0 for count in counts)
    assert all(bar.y >= chart.top - 1e-6 for bar in chart.bars)


def test_stability_is_zero_for_training_s_own_distribution_and_grows_with_the_difference() -> None:
    expected = [0.5, 0.3, 0.1, 0.1]
    assert stability_index([500, 300, 100, 100], expected) == pytest.approx(0)
    near, far = (stability_index(c, expected) for c in ([450, 330, 110, 110], [0, 0, 0, 1000]))
    assert 0 < near < 0.1
    assert far > 0.25
