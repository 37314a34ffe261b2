"""Averages of time buckets and the maximum of a window, against the published cases of Knative."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.autoscaling.vectors import Case, cases
from tidesight.autoscaling.window import AverageWindow, MaxWindow, smoothing_coefficient

FILE = "kpa.json"


@cases(FILE, "aggregate")
def test_published_averages(case: Case) -> None:
    window = AverageWindow(case["windowSeconds"], case["granularitySeconds"], case["algorithm"])
    for step in case["ops"]:
        if step["op"] == "record":
            window = window.record(step["t"], step["value"])
        else:
            assert window.average(step["t"]) == pytest.approx(step["expected"], abs=step["tolerance"]), step


@cases(FILE, "smoothing_coefficient")
def test_published_coefficients(case: Case) -> None:
    assert smoothing_coefficient(case["buckets"]) == pytest.approx(case["expected"], abs=case["tolerance"])


@cases(FILE, "max_window")
def test_published_maxima(case: Case) -> None:
    window = MaxWindow(case["windowSeconds"], case["granularitySeconds"])
    for step in case["records"]:
        window = window.record(step["t"], step["value"])
    assert window.current == case["expected"]


def test_a_window_is_a_value() -> None:
    empty = AverageWindow(5)
    assert empty.record(1, 7).average(1) == 7
    assert empty.average(1) == 0
    assert empty.is_empty(1)


def test_values_of_one_bucket_add_up() -> None:
    assert AverageWindow(5).record(1.1, 3).record(1.9, 4).average(1) == 7


def test_what_is_older_than_the_window_is_gone() -> None:
    window = AverageWindow(3)
    for second in range(10):
        window = window.record(second, second)
    assert window.average(9) == 8
    assert len(window.buckets) == 3


def test_a_value_that_is_late_by_a_window_is_dropped() -> None:
    window = AverageWindow(5).record(60, 10)
    assert window.record(55, 3) == window
    assert window.record(56, 30).average(60) == 8  # late, but in the window: it reaches back to it


def test_empty_is_longer_than_the_window() -> None:
    window = AverageWindow(5).record(0, 1)
    assert not window.is_empty(5.9)
    assert window.average(5.9) == 0  # not empty yet, but nothing of it is left
    assert window.is_empty(6)


def test_an_average_is_cut_to_six_digits_so_that_noise_asks_for_no_instance() -> None:
    window = AverageWindow(10)
    for second in range(10):
        window = window.record(second, 0.1)
    assert math.ceil(window.average(9) / 0.1) == 1
    assert AverageWindow(3).record(0, 1).record(2, 1).average(2) == 0.666666


def test_the_exponential_average_of_a_silent_window_decays() -> None:
    window = AverageWindow(60, 1, "exponential").record(0, 100)
    assert window.average(0) == pytest.approx(20)
    assert window.average(1) == pytest.approx(16)
    assert window.average(59) == pytest.approx(20 * 0.8**59)
    assert window.average(61) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=60), st.integers(1, 12))
def test_the_maximum_is_that_of_the_last_buckets(steps: list[tuple[int, int]], size: int) -> None:
    window, index, past = MaxWindow(size * 2.0, 2.0), 0, []
    for ahead, value in steps:
        index += ahead
        past.append((index, value))
        window = window.record(index * 2.0 + 1, value)
        assert window.current == max(value for bucket, value in past if bucket > index - size)
    assert len(window.maxima) <= size


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), min_size=1, max_size=60), st.integers(1, 12))
def test_the_linear_average_is_that_of_the_covered_buckets(steps: list[tuple[int, int]], size: int) -> None:
    window, now, past, first = AverageWindow(size), 0, {0: 0}, 0
    window = window.record(0, 0)
    for ahead, value in steps:
        if ahead >= size:
            past, first = {}, now + ahead
        now += ahead
        past[now] = past.get(now, 0) + value
        window = window.record(now, value)
        counted = sum(value for bucket, value in past.items() if bucket > now - size)
        assert window.average(now) == pytest.approx(counted / min(now - first + 1, size), abs=2e-6)
