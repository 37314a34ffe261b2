"""Recorded loads."""

from pathlib import Path
from random import Random

import pytest

from tidesight.errors import DataError
from tidesight.workload.trace import Replay, Trace, read_trace

TRACE = Trace(((0, 10), (2, 40), (4, 0)))


def test_a_trace_is_flat_in_each_bin() -> None:
    assert [TRACE.duration_s, TRACE.mean_rps] == pytest.approx([6, 50 / 6])
    curve = TRACE.curve()
    assert list(curve.points) == [(0, 5), (2, 5), (2, 20), (4, 20), (4, 0), (6, 0)]
    assert [sum(low <= t < low + 2 for t in curve.arrivals("even", Random(1))) for low in (0, 2, 4)] == [10, 40, 0]


def test_scaling_time_keeps_the_rate_and_scaling_the_rate_keeps_the_time() -> None:
    faster = TRACE.curve(time_scale=0.1)
    assert faster.duration_s == pytest.approx(0.6) and faster.peak_rps == 20 and faster.expected == pytest.approx(5)
    fewer = TRACE.curve(rate_scale=0.1)
    assert fewer.duration_s == 6 and fewer.peak_rps == 2 and fewer.expected == pytest.approx(5)


def test_a_trace_that_starts_late_starts_at_once() -> None:
    assert Trace(((100, 1), (101, 3))).curve().points == ((0, 1), (1, 1), (1, 3), (2, 3))


def test_a_replay_is_cut_at_the_duration() -> None:
    replay = Replay(TRACE)
    assert replay.duration_s == 6
    assert replay.curve(3).points == ((0, 5), (2, 5), (2, 20), (3, 20))
    assert replay.curve(60).duration_s == 6
    assert Replay(TRACE, time_scale=2).duration_s == 12


def test_a_file_is_read() -> None:
    assert read_trace(["t_s,requests\n", "0,10\n", "2,40\n", "\n", "4,0\n"]) == TRACE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected the columns t_s,requests, got nothing"),
        ("time,requests\n0,1\n1,1", "line 1: expected the columns"),
        ("t_s,requests\n0,1\n1,x\n", "line 3: expected two numbers, got '1,x'"),
        ("t_s,requests\n0,1\n1,2,3\n", "line 3: expected two numbers"),
        ("t_s,requests\n0,1\n\n1\n", "line 4: expected two numbers"),
        ("t_s,requests\n0,1\n1,-2\n", "line 3: expected a time and a count of at least 0"),
        ("t_s,requests\n0,1\n1,nan\n", "line 3: expected a time and a count"),
        ("t_s,requests\n0,1\ninf,1\n", "line 3: expected a time"),
        ("t_s,requests\n0,1\n0,2\n", "line 3: 0 s does not come after 0 s"),
        ("t_s,requests\n0,1\n", "at least two lines below the header, got 1"),
    ],
)
def test_a_malformed_trace_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(DataError, match="mine.csv.*" + said.replace(".", r"\.")):
        read_trace(text.splitlines(keepends=True), "mine.csv")


def test_the_real_traces_can_be_replayed(assets: Path) -> None:
    files = sorted((assets / "traces").glob("*.csv"))
    assert files
    for file in files:
        with file.open(newline="") as lines:
            trace = read_trace(lines, file.name)
        curve = trace.curve(time_scale=0.01)
        assert curve.expected == pytest.approx(0.01 * sum(requests for _, requests in trace.bins), rel=1e-3)
