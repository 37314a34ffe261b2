"""Parts of the load generator: URLs and requests, the timer, plans of other tools, the search for a rate."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import pytest
import uvloop

from tests.known import known_server
from tidesight.errors import ConfigError
from tidesight.loadtest import drivers, jmeter, locust, max_rate
from tidesight.loadtest.connecting import failure_of
from tidesight.loadtest.jmeter_plan import jmx, schedule
from tidesight.loadtest.plan import Load
from tidesight.loadtest.target import Body, parse_url
from tidesight.loadtest.timer import Timer
from tidesight.workload.arrivals import Constant, Poisson, Ramp, Step
from tidesight.workload.outcome import Failure
from tidesight.workload.scenario import Users


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "whole"),
    [
        ("http://a.b:81/x?y=1", "a.b", 81, "/x?y=1", "http://a.b:81/x?y=1"),
        ("https://a.b", "a.b", 443, "/v1/detect", "https://a.b/v1/detect"),
        ("a.b:9", "a.b", 9, "/v1/detect", "http://a.b:9/v1/detect"),
        ("http://[::1]:80/", "::1", 80, "/v1/detect", "http://[::1]/v1/detect"),
        ("http://a.b?confidence=0.5", "a.b", 80, "/v1/detect?confidence=0.5", "http://a.b/v1/detect?confidence=0.5"),
    ],
)
def test_urls(url: str, host: str, port: int, path: str, whole: str) -> None:
    target = parse_url(url, "/v1/detect")
    assert (target.host, target.port, target.path, target.url) == (host, port, path, whole)
    assert (target.tls is not None) == url.startswith("https")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ftp://a/",), "expected http"),
        (("http://",), "expected http"),
        (("http://a:99999/",), "not a URL"),
        (("http://me:secret@a/",), "--header 'Authorization"),
        (("http://a/b c",), "needs %-escapes"),
        (("http://a/ü",), "needs %-escapes"),
        (("http://a", "/", ["no colon"]), "expected 'Name: value'"),
        (("http://a", "/", ["X: a\r\nY: b"]), "expected 'Name: value'"),
        (("http://a", "/", ["Bad name: x"]), "expected 'Name: value'"),
        (("http://a", "/", ["Content-Length: 3"]), "sets this header itself"),
        (("http://a", "/", ["X: \u20ac"]), "only Latin-1"),
        (("https://a", "/", [], "/nowhere.pem"), "cannot use the certificates"),
    ],
)
def test_bad_targets_are_named(arguments: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_url(*([*arguments, "/v1/detect"] if len(arguments) == 1 else arguments))


def test_insecure_trusts_any_and_the_default_does_not() -> None:
    trusting, careful = parse_url("https://a", "/", insecure=True).tls, parse_url("https://a", "/").tls
    assert trusting and careful and trusting.verify_mode == ssl.CERT_NONE and careful.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ConnectionRefusedError(), "refused"),
        (ConnectionResetError(), "reset"),
        (TimeoutError(), "timeout"),
        (ssl.SSLCertVerificationError(), "tls"),
        (OSError(24, "too many open files"), "exhausted"),
        (OSError(99, "no address left"), "exhausted"),
        (OSError(113, "no route"), "unreachable"),
        (UnicodeError("label too long"), "dns"),
    ],
)
def test_failures_to_connect_have_a_class(error: Exception, word: str) -> None:
    assert failure_of(error) is Failure(word)


@pytest.mark.parametrize("runner", [uvloop.run, asyncio.run])
def test_the_timer_is_on_time_and_in_order(runner: Callable[..., Any]) -> None:
    async def wait() -> list[tuple[float, float]]:
        timer, done = Timer(asyncio.get_running_loop()), asyncio.Event()
        woken: list[tuple[float, float]] = []

        def note(due_s: float) -> None:
            woken.append((due_s, monotonic() - due_s if due_s else 0.0))

        first_s = monotonic() + 0.02
        for number in (3, 1, 2, 0):
            due_s = first_s + number * 0.0103
            timer.at(due_s, partial(note, due_s))
        timer.at(first_s + 0.1, done.set)
        timer.at(monotonic() - 1, partial(note, 0.0))  # past: at once
        await done.wait()
        timer.close()
        return woken

    woken = runner(wait())
    assert len(woken) == 5 and woken == sorted(woken)
    assert all(late_s >= 0 for _, late_s in woken)
    assert sorted(late_s for _, late_s in woken)[2] < 0.002  # the median: the machine is shared


LOAD = Load(parse_url("https://h:8443/v1/detect", "/", ["X-API-Key: k"]), [Body(b"a", "image/png")], Constant(50), 30)


def test_a_rate_over_time_is_a_schedule_of_jmeter() -> None:
    assert schedule(Constant(50).curve(30), "even", 5) == (
        "rate(50.000000/sec) even_arrivals(30000 ms) rate(50.000000/sec) pause(5000 ms)"
    )
    assert schedule(Ramp(1, 5).curve(2), "poisson", 1).startswith(
        "rate(1.000000/sec) random_arrivals(2000 ms) rate(5.000000/sec)"
    )
    assert schedule(Step(1, 9).curve(3), "poisson", 1).count("random_arrivals(1000 ms)") == 3


@pytest.mark.parametrize("pattern", [Constant(50), Poisson(50), Users(20, 10, 0.5)])
def test_a_plan_says_what_the_load_says(pattern: Any) -> None:
    root = ElementTree.fromstring(jmx(replace(LOAD, pattern=pattern)))
    props = {one.get("name"): one.text for one in root.iter() if one.tag.endswith("Prop")}
    assert root.tag == "jmeterTestPlan" and root.get("jmeter") == "5.5"
    assert props["HTTPSampler.domain"] == "h" and props["HTTPSampler.port"] == "8443"
    assert props["HTTPSampler.protocol"] == "https" and props["HTTPSampler.path"] == "/v1/detect"
    assert props["HTTPSampler.response_timeout"] == "5000" and props["filename"] == "results.jtl"
    if isinstance(pattern, Users):
        assert props["ThreadGroup.num_threads"] == "20" and props["ThreadGroup.ramp_time"] == "2"
        assert props["ThreadGroup.duration"] == "30" and props["ConstantTimer.delay"] == "500"
    else:
        spacing = {"even": "even_arrivals", "poisson": "random_arrivals"}[pattern.spacing]
        assert spacing in (props["OpenModelThreadGroup.schedule"] or "")
        assert props["OpenModelThreadGroup.random_seed"] == "1"


def test_plans_are_written_for_their_tools_own_pages(tmp_path: Path) -> None:
    assert jmeter.Driver().write_plan(LOAD, tmp_path / "j").endswith("jmeter -t plan.jmx")
    assert {file.name for file in (tmp_path / "j").iterdir()} == {"body-0000", "bodies.csv", "plan.jmx"}
    assert (tmp_path / "j/bodies.csv").read_text() == 'body-0000,"image/png"\n'
    command = locust.Driver().write_plan(LOAD, tmp_path / "l")
    assert "locust -f locustfile.py --host https://h:8443 -u 1 -r 1" in command
    assert {file.name for file in (tmp_path / "l").iterdir()} == {"body-0000", "locustfile.py", "plan.json"}
    with pytest.raises(ConfigError, match="goes with --driver locust or jmeter"):
        drivers.driver("tidesight").write_plan(LOAD, tmp_path)
    with pytest.raises(ConfigError, match="cannot write a plan"):
        jmeter.Driver().write_plan(LOAD, tmp_path / "j/plan.jmx")


def test_drivers_are_named_truthfully() -> None:
    assert drivers.driver("aiohttp").name == drivers.driver("tidesight").name == "tidesight"
    with pytest.raises(ConfigError, match="expected one of tidesight, aiohttp, locust, jmeter; got 'wrk'"):
        drivers.driver("wrk")


@pytest.mark.parametrize("start_rps", [3.0, 40.0, 400.0])
def test_the_search_closes_in_on_the_highest_rate(start_rps: float) -> None:
    tried: list[float] = []

    def passed(rate_rps: float) -> bool:
        tried.append(rate_rps)
        return rate_rps <= 100

    max_rate._bisect(passed, start_rps, [])
    best = max(rate_rps for rate_rps in tried if rate_rps <= 100)
    assert best > 100 / 1.05 and len(tried) < 20


def test_the_highest_rate_of_a_server_is_found() -> None:
    """One connection and 10 ms for each request: a hundred a second at most, and fewer within an objective."""
    with known_server("--delay-ms", "10") as port:
        target = parse_url(f"http://127.0.0.1:{port}", "/")
        load = Load(target, [Body(b"x", "image/jpeg")], Poisson(1), 1.0, 1.0, 0.1, connections=1)
        found = max_rate.find_max_rate(load, 0.5, 30.0, lambda _: None)
    assert found.rate_rps is not None and 30 <= found.rate_rps < 135  # above 120 its median is late within a second
    assert any(one.passed for one in found.tries) and any(not one.passed for one in found.tries)
    best = next(one for one in found.tries if one.rate_rps == found.rate_rps)
    assert best.requests >= best.needed and "met" in best.words()
    assert found.as_json()["confidence"] == 0.99


def test_a_server_that_never_meets_the_objective_has_no_rate() -> None:
    with known_server("--delay-ms", "50") as port:
        target = parse_url(f"http://127.0.0.1:{port}", "/")
        load = Load(target, [Body(b"x", "image/jpeg")], Poisson(1), 0.3, 1.0, 0.01)
        found = max_rate.find_max_rate(replace(load, timeout_s=0.2), 0.9, 100.0, lambda _: None)
    assert found.rate_rps is None and found.lowest_rps < 1 and "missed" in found.tries[0].words()
