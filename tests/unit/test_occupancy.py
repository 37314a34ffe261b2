"""How long requests were inside, by a clock that the test moves."""

import pytest

from tidesight.serving import occupancy
from tidesight.serving.occupancy import Occupancy


def test_overlapping_requests_count_each_and_the_busy_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(occupancy, "perf_counter", lambda: now_s)
    inside = Occupancy()
    now_s = 103.0  # nobody
    with inside:
        now_s = 104.0  # one
        with inside:
            now_s = 106.0  # two
        now_s = 107.0  # one
        assert (inside.request_s, inside.busy_s) == (1 + 2 * 2 + 1, 4)
    now_s = 200.0
    assert (inside.request_s, inside.busy_s) == (6, 4)


def test_a_request_that_fails_leaves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(occupancy, "perf_counter", lambda: now_s)
    inside = Occupancy()
    with pytest.raises(ValueError, match="bad"), inside:
        now_s = 1.0
        raise ValueError("bad")
    now_s = 5.0
    assert (inside.request_s, inside.busy_s) == (1, 1)
