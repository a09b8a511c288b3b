"""Everything that a chart shows stays inside it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from src.service.web import charts

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
    columns = [("", {"Low": count, "High": count}, "") for count in counts]
    chart = charts.stacked_bars(columns, ["Low"], 0, 1)
    heights = [bar.height for bar in chart.bars]
    assert len(heights) == sum(count > 0 for count in counts)
    assert all(bar.y >= chart.top - 1e-6 for bar in chart.bars)
