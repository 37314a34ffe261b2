"""Time as an argument."""

import time

import pytest

from tidesight.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_is_monotonic_time() -> None:
    clock: Clock = SystemClock()
    before = time.monotonic()
    seen = [clock.now_s() for _ in range(100)]
    assert before <= seen[0]
    assert seen == sorted(seen)
    assert seen[-1] <= time.monotonic()


def test_the_manual_clock_stands_still_until_it_is_moved() -> None:
    clock: Clock = ManualClock()
    assert [clock.now_s(), clock.now_s()] == [0.0, 0.0]


def test_the_manual_clock_moves_by_what_it_is_told() -> None:
    clock = ManualClock(100.0)
    clock.advance(0.25)
    clock.advance(0)
    assert clock.now_s() == 100.25


def test_time_does_not_go_back() -> None:
    clock = ManualClock(5.0)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-0.001)
    assert clock.now_s() == 5.0
