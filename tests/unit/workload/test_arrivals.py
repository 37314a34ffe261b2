"""When requests are due: every pattern's curve, and arrivals that follow it."""

import math
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.errors import ConfigError
from tidesight.workload.arrivals import Burst, Constant, Diurnal, Pattern, Poisson, Ramp, RateCurve, Spacing, Step

EVERY = [
    Constant(20), Poisson(20), Ramp(5, 50), Ramp(50, 0), Step(10, 40), Burst(5, 50, 10, 2), Diurnal(2, 30),
    Diurnal(2, 30, 15),
]  # fmt: skip


def times(pattern: Pattern, duration_s: float, spacing: Spacing, seed: int = 1) -> list[float]:
    return list(pattern.curve(duration_s).arrivals(spacing, Random(seed)))


@pytest.mark.parametrize("pattern", EVERY, ids=str)
def test_arrivals_follow_the_curve(pattern: Pattern) -> None:
    curve = pattern.curve(60)
    even = times(pattern, 60, "even")
    assert even == sorted(even) and even[0] == 0 and even[-1] < 60
    assert abs(len(even) - curve.expected) <= 1
    # Each tenth of the time has its area's share, to one request.
    for number in range(10):
        low, high = 6 * number, 6 * number + 6
        area = sum(rate(curve, low + (i + 0.5) * 6 / 500) * 6 / 500 for i in range(500))
        assert abs(sum(low <= t < high for t in even) - area) <= 1.5
    counts = [len(times(pattern, 60, "poisson", seed)) for seed in range(30)]
    assert abs(sum(counts) / 30 - curve.expected) < 4 * math.sqrt(curve.expected / 30)


def rate(curve: RateCurve, t_s: float) -> float:
    for (start_s, a), (end_s, b) in pairwise(curve.points):
        if start_s <= t_s < end_s:
            return a + (b - a) * (t_s - start_s) / (end_s - start_s)
    raise AssertionError(t_s)


def test_a_seed_gives_the_same_times_again_and_another_gives_others() -> None:
    assert times(Poisson(50), 10, "poisson", 7) == times(Poisson(50), 10, "poisson", 7)
    assert times(Poisson(50), 10, "poisson", 7) != times(Poisson(50), 10, "poisson", 8)


def test_poisson_gaps_are_exponential() -> None:
    found = times(Poisson(100), 200, "poisson")
    gaps = [b - a for a, b in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.01, rel=0.03)
    assert variance / mean**2 == pytest.approx(1, abs=0.06)  # 0 for even arrivals


def test_constant_arrivals_are_even() -> None:
    assert times(Constant(4), 1, "even") == [0, 0.25, 0.5, 0.75]
    assert Constant(4).spacing == "even" and Poisson(4).spacing == "poisson"


def test_the_patterns_have_their_shapes() -> None:
    assert Step(1, 9).curve(30).points == ((0, 1), (10, 1), (10, 9), (20, 9), (20, 1), (30, 1))
    assert Step(1, 9, 5, 99).curve(30).points == ((0, 1), (5, 1), (5, 9), (30, 9))
    assert Step(1, 9, 0).curve(30).points[:2] == ((0, 1), (0, 1))
    assert Burst(1, 9, 10, 2).curve(25).points == (
        (0, 1), (10, 1), (10, 9), (12, 9), (12, 1), (20, 1), (20, 9), (22, 9), (22, 1), (25, 1),
    )  # fmt: skip
    day = Diurnal(2, 10).curve(96)
    assert list(day.points[0]) == [0, 2] and list(day.points[48]) == pytest.approx([48, 10])
    assert day.peak_rps == pytest.approx(10)
    assert day.expected == pytest.approx(6 * 96, rel=1e-6)


@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 50)), min_size=1, max_size=6),
    st.floats(0, 50),
    st.sampled_from(["even", "poisson"]),
)
def test_arrivals_are_in_order_and_within_any_curve(pieces: Any, first: float, spacing: Spacing) -> None:
    points, t_s = [(0.0, first)], 0.0
    for length_s, rate_rps in pieces:
        t_s += length_s
        points.append((t_s, rate_rps))
    curve = RateCurve(tuple(points))
    found = list(curve.arrivals(spacing, Random(3)))
    assert found == sorted(found)
    assert all(0 <= one <= curve.duration_s for one in found)
    if spacing == "even":
        assert abs(len(found) - curve.expected) <= 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateCurve(()),
        lambda: RateCurve(((0, 1),)),
        lambda: RateCurve(((1, 1), (2, 1))),
        lambda: RateCurve(((0, 1), (3, 1), (2, 1))),
        lambda: RateCurve(((0, 1), (0, 1))),
        lambda: RateCurve(((0, -1), (1, 1))),
        lambda: RateCurve(((0, math.inf), (1, 1))),
        lambda: Constant(1).curve(0),
        lambda: Poisson(-1).curve(10),
        lambda: Burst(1, 2, 5, 5).curve(10),
        lambda: Step(1, 2, 9, 3).curve(10),
        lambda: Step(1, 2, 11).curve(10),
    ],
)
def test_what_is_no_rate_over_time_is_an_error(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
