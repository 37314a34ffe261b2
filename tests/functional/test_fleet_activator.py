"""The activator with real sockets: it holds, hands on, bounds, and loses nothing."""

import asyncio
import gc
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil
import pytest

from tests.functional.backends import Backend, Caller, Message, ask, in_loop, stop_all, until
from tidesight.fleet.activator import Activator
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.holding import HoldRules

LONG_S = 30.0


@asynccontextmanager
async def activator(rules: HoldRules, **arguments: object) -> AsyncIterator[tuple[Activator, Endpoint]]:
    made = Activator(rules, **arguments)  # type: ignore[arg-type]
    try:
        yield made, await made.start()
    finally:
        await made.stop(0)


@asynccontextmanager
async def instances(*backends: Backend) -> AsyncIterator[list[Endpoint]]:
    try:
        yield [await backend.start() for backend in backends]
    finally:
        await stop_all(backends)


def many(to: Endpoint, count: int) -> list[asyncio.Task[Message]]:
    return [asyncio.create_task(ask(to)) for _ in range(count)]


async def holds(made: Activator, count: int) -> None:
    await until(lambda: made.report().held == count)


def statuses(answers: list[Message]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


@in_loop
async def test_from_zero_to_one_with_200_at_once() -> None:
    poked: list[int] = []
    one = Backend("one")
    async with activator(HoldRules(LONG_S), when_held=lambda: poked.append(1)) as (made, to), instances(one) as ready:
        asked = many(to, 200)
        await holds(made, 200)
        assert poked == [1]
        assert not any(task.done() for task in asked)
        made.set_instances(ready)
        assert statuses(await asyncio.gather(*asked)) == {200: 200}
        assert len(one.requests) == 200
        report = made.report()
        assert (report.held, report.handed_on, report.held_bytes) == (0, 0, 0)
        assert (report.arrivals, report.answered, report.refused, report.left) == (200, 200, {}, 0)


@in_loop
async def test_an_instance_gets_no_more_at_a_time_than_it_may() -> None:
    one, two = Backend("one", delay_s=0.05), Backend("two", delay_s=0.05)
    async with activator(HoldRules(LONG_S, concurrency=3)) as (made, to), instances(one, two) as ready:
        made.set_instances(ready)
        assert statuses(await asyncio.gather(*many(to, 40))) == {200: 40}
        assert (one.most_active, two.most_active) == (3, 3)


@in_loop
async def test_first_come_first_served() -> None:
    one = Backend("one", delay_s=0.01)
    async with activator(HoldRules(LONG_S, concurrency=1)) as (made, to), instances(one) as ready:
        asked = []
        for number in range(20):
            asked.append(asyncio.create_task(ask(to, f"/{number}")))
            await holds(made, number + 1)
        made.set_instances(ready)
        await asyncio.gather(*asked)
        assert [request.path for request in one.requests] == [f"/{number}" for number in range(20)]


@in_loop
async def test_a_request_and_its_answer_stay_as_they_are() -> None:
    one = Backend("one", status=418)
    one.body = bytes(range(256)) * 5000
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        body = bytes(reversed(range(256))) * 3000
        answer = await ask(to, "/v1/detect?a=%20b&c", body, traceparent="00-ab-cd-01", x_request_id="mine")
        assert (answer.status, answer.body, answer.headers["x-by"]) == (418, one.body, "one")
        [request] = one.requests
        assert (request.path, request.body) == ("/v1/detect?a=%20b&c", body)
        assert (request.headers["traceparent"], request.headers["x-request-id"]) == ("00-ab-cd-01", "mine")
        assert request.headers["host"] == "test"


@in_loop
async def test_a_body_in_chunks_and_one_that_waits_to_be_asked_for() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(
            b"POST /chunks HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\none")).startswith(b"HTTP/1.1 200")
        writer.write(b"POST /asks HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"xyz")
        assert (await reader.readuntil(b"\r\n\r\none")).startswith(b"HTTP/1.1 200")
        writer.close()
        assert [(request.path, request.body) for request in one.requests] == [("/chunks", b"abcde"), ("/asks", b"xyz")]
        assert "expect" not in one.requests[1].headers


@in_loop
async def test_an_answer_streams_through() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        begun.set()
        await go_on.wait()
        writer.write(b"4\r\nlast\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with activator(HoldRules(LONG_S)) as (made, to), server:
        made.set_instances([Endpoint(*server.sockets[0].getsockname())])
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        await begun.wait()
        assert b"first" in await reader.readuntil(b"first\r\n")  # while the rest is not there yet
        go_on.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\nlast\r\n0\r\n\r\n"
        writer.close()
        await until(lambda: made.report().answered == 1)


@in_loop
async def test_an_interim_answer_is_not_the_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with activator(HoldRules(LONG_S)) as (made, to), server:
        made.set_instances([Endpoint(*server.sockets[0].getsockname())])
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 103")
        await until(lambda: made.report().answered == 1)
        writer.close()


@in_loop
async def test_the_answer_to_head_has_no_body_to_wait_for() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"HEAD / HTTP/1.1\r\nhost: t\r\n\r\n")
        assert b"content-length: 3" in await reader.readuntil(b"\r\n\r\n")
        await until(lambda: made.report().answered == 1)
        writer.close()


@pytest.mark.parametrize("status", [429, 500, 503])
@in_loop
async def test_held_too_long_is_answered_by_the_platforms_rule(status: int) -> None:
    async with activator(HoldRules(0.2, status)) as (made, to):
        started_s = time.monotonic()
        answer = await ask(to)
        assert answer.status == status
        assert 0.19 <= time.monotonic() - started_s < 5
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("retry-after" in answer.headers) == (status != 500)
        assert made.report().refused == {"timeout": 1}


@in_loop
async def test_a_platform_that_holds_nothing_refuses_at_once_and_hands_on_what_it_can() -> None:
    one = Backend("one", delay_s=0.3)
    async with activator(HoldRules(0, 503, concurrency=1)) as (made, to), instances(one) as ready:
        assert (await ask(to)).status == 503
        made.set_instances(ready)
        assert statuses(await asyncio.gather(*many(to, 3))) == {200: 1, 503: 2}
        assert made.report().refused == {"none_ready": 3}


@in_loop
async def test_no_more_are_held_than_may_be() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S, max_requests=5)) as (made, to), instances(one) as ready:
        held = many(to, 5)
        await holds(made, 5)
        assert statuses(await asyncio.gather(*many(to, 3))) == {429: 3}
        made.set_instances(ready)
        assert statuses(await asyncio.gather(*held)) == {200: 5}
        assert made.report().refused == {"full": 3}


@in_loop
async def test_no_more_bytes_are_held_than_may_be_whether_a_length_is_given_or_not() -> None:
    one = Backend("one")
    chunked = b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        600,
        b"x" * 600,
    )
    async with activator(HoldRules(LONG_S, max_bytes=1000)) as (made, to), instances(one) as ready:
        held = asyncio.create_task(ask(to, body=b"x" * 600))
        await until(lambda: made.report().held_bytes == 600)
        assert (await ask(to, body=b"x" * 600)).status == 429
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(chunked)
        assert (await reader.readline()).startswith(b"HTTP/1.1 429")
        writer.close()
        small = asyncio.create_task(ask(to, body=b"x" * 400))
        await until(lambda: made.report().held_bytes == 1000)
        made.set_instances(ready)
        assert statuses([await held, await small]) == {200: 2}
        assert made.report().refused == {"memory": 2}
        assert made.report().held_bytes == 0


@in_loop
async def test_a_body_may_only_be_so_large() -> None:
    async with activator(HoldRules(LONG_S), max_body_bytes=1000) as (made, to):
        assert (await ask(to, body=b"x" * 1001)).status == 413
        assert made.report().held == 0


@in_loop
async def test_a_caller_that_leaves_frees_its_place_and_is_not_handed_on() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S, max_requests=1)) as (made, to), instances(one) as ready:
        caller = Caller(to)
        leaving = asyncio.create_task(caller.ask("/leaves"))
        await holds(made, 1)
        caller.leave()
        await holds(made, 0)
        with suppress(OSError):
            await leaving
        staying = asyncio.create_task(ask(to, "/stays"))
        await holds(made, 1)
        made.set_instances(ready)
        assert (await staying).status == 200
        assert [request.path for request in one.requests] == ["/stays"]
        assert (made.report().left, made.report().held_bytes) == (1, 0)


@in_loop
async def test_an_instance_sees_when_the_caller_leaves() -> None:
    one = Backend("one", delay_s=20)
    async with activator(HoldRules(LONG_S, concurrency=1)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        caller = Caller(to)
        leaving = asyncio.create_task(caller.ask())
        await until(lambda: one.active == 1)
        caller.leave()
        await until(lambda: one.left_early == 1)
        await until(lambda: made.report().handed_on == 0)
        one.delay_s = 0
        assert (await ask(to)).status == 200  # its place at the instance is free
        with suppress(OSError):
            await leaving


@in_loop
async def test_a_refused_connection_goes_to_another_instance() -> None:
    gone, one = Backend("gone"), Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(gone, one) as ready:
        made.set_instances(ready)
        await gone.stop()
        assert statuses(await asyncio.gather(*many(to, 50))) == {200: 50}
        assert made.report().retried >= 1
        assert len(one.requests) == 50


@in_loop
async def test_requests_wait_while_the_only_instance_refuses_and_are_handed_on_when_it_is_back() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        await one.stop()
        asked = many(to, 20)
        await until(lambda: made.report().retried >= 2)
        again = Backend("again")
        await again.start(ready[0].port)
        assert statuses(await asyncio.gather(*asked)) == {200: 20}
        await again.stop()


@in_loop
async def test_what_was_inside_an_instance_that_ends_is_answered_and_nothing_else_is_lost() -> None:
    one, two = Backend("one", delay_s=20), Backend("two")
    async with activator(HoldRules(LONG_S, concurrency=2)) as (made, to), instances(one, two) as ready:
        made.set_instances(ready[:1])
        inside = many(to, 2)
        await until(lambda: one.active == 2)
        waiting = many(to, 10)
        await holds(made, 10)
        made.set_instances(ready)
        await one.stop()
        assert statuses(await asyncio.gather(*inside)) == {502: 2}
        assert statuses(await asyncio.gather(*waiting)) == {200: 10}
        assert made.report().refused == {"lost": 2}


@in_loop
async def test_an_answer_that_breaks_off_is_seen_to_break_off() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly so much")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with activator(HoldRules(LONG_S)) as (made, to), server:
        made.set_instances([Endpoint(*server.sockets[0].getsockname())])
        with pytest.raises(ConnectionResetError):
            await ask(to)
        assert made.report().handed_on == 0


@in_loop
async def test_connections_are_kept_unless_the_instance_closes_them() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        caller = Caller(to)
        for _ in range(5):
            assert (await caller.ask()).status == 200
        assert one.connections == 1
        one.closes_after_answer = True
        assert (await caller.ask()).headers["connection"] == "close"
        await until(lambda: not one.writers)
        made.set_instances([])
        caller.leave()


@in_loop
async def test_an_instance_off_the_list_finishes_what_it_has_and_keeps_no_connection() -> None:
    one, two = Backend("one", delay_s=0.3), Backend("two")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one, two) as ready:
        made.set_instances(ready[:1])
        asked = many(to, 3)
        await until(lambda: one.active == 3)
        made.set_instances(ready[1:])
        assert (await ask(to)).headers["x-by"] == "two"
        assert {answer.headers["x-by"] for answer in await asyncio.gather(*asked)} == {"one"}
        await until(lambda: not one.writers)


@in_loop
async def test_the_deadline_is_handed_on_less_the_time_held() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        asked = [
            asyncio.create_task(ask(to, "/own", x_request_timeout_ms="20000")),
            asyncio.create_task(ask(to, "/told", x_envoy_expected_rq_timeout_ms="10000", x_request_timeout_ms="20000")),
            asyncio.create_task(ask(to, "/bad", x_envoy_expected_rq_timeout_ms="soon")),
            asyncio.create_task(ask(to, "/none")),
        ]
        await holds(made, 4)
        await asyncio.sleep(0.5)
        made.set_instances(ready)
        await asyncio.gather(*asked)
        told = {one.path: one.headers.get("x-envoy-expected-rq-timeout-ms") for one in one.requests}
        assert (told["/bad"], told["/none"]) == ("soon", None)
        assert 10_000 < int(told["/own"] or 0) <= 19_500
        assert 5_000 < int(told["/told"] or 0) <= 9_500


@in_loop
async def test_a_request_is_held_no_longer_than_its_caller_waits() -> None:
    async with activator(HoldRules(LONG_S, 503)) as (made, to):
        started_s = time.monotonic()
        assert (await ask(to, x_request_timeout_ms="150")).status == 429
        assert time.monotonic() - started_s < 5
        assert made.report().refused == {"deadline": 1}


@in_loop
async def test_it_answers_probes_itself_and_counts_none() -> None:
    one = Backend("one")
    async with activator(HoldRules(0, 503)) as (made, to), instances(one) as ready:
        assert (await ask(to, "/healthz", b"", "GET")).status == 200
        assert (await ask(to, "/readyz", b"", "GET")).status == 503
        made.rules = HoldRules(LONG_S)
        assert (await ask(to, "/readyz", b"", "GET")).status == 200
        made.rules = HoldRules(0, 503)
        made.set_instances(ready)
        assert (await ask(to, "/readyz", b"", "GET")).status == 200
        assert made.report().arrivals == 0
        assert one.probes == 0


@in_loop
async def test_a_probe_with_a_query_is_a_request_like_any_other() -> None:
    """So whoever wants an instance's own answer gets it, from a fleet at zero too."""
    poked: list[int] = []
    one = Backend("one")
    async with activator(HoldRules(LONG_S), when_held=lambda: poked.append(1)) as (made, to), instances(one) as ready:
        asked = asyncio.create_task(ask(to, "/readyz?of=instance", b"", "GET"))
        await holds(made, 1)
        assert poked == [1]
        made.set_instances(ready)
        assert (await asked).status == 200


@in_loop
async def test_its_load_is_what_was_held_and_handed_on_over_time() -> None:
    one = Backend("one", delay_s=20)
    async with activator(HoldRules(LONG_S, concurrency=1)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        asked = many(to, 4)
        await until(lambda: one.active == 1 and made.report().held == 3)
        before = made.report()
        await asyncio.sleep(0.3)
        after = made.report()
        assert after.mean_held(before) == pytest.approx(3)
        assert after.mean_handed_on(before) == pytest.approx(1)
        assert after.oldest_age_s >= 0.3
        one.delay_s = 0
        for task in asked:
            task.cancel()


@pytest.mark.parametrize("junk", [b"not HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000])
@in_loop
async def test_what_is_not_http_is_refused(junk: bytes) -> None:
    async with activator(HoldRules(LONG_S)) as (made, to):
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(junk)
        line = await reader.readline()
        assert line.split()[1] in (b"400", b"431")
        writer.close()
        assert made.report().held == 0


@in_loop
async def test_a_second_request_behind_one_that_waits_does_not_disturb_it() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"GET /first HTTP/1.1\r\nhost: t\r\n\r\nGET /second HTTP/1.1\r\nhost: t\r\n\r\n")
        await holds(made, 1)
        made.set_instances(ready)
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1 200") == 1  # and the connection is closed, so the caller knows
        assert [request.path for request in one.requests] == ["/first"]
        writer.close()


@in_loop
async def test_stopping_refuses_what_waits_and_lets_instances_finish() -> None:
    one = Backend("one", delay_s=0.3)
    made = Activator(HoldRules(LONG_S, concurrency=1))
    to = await made.start()
    async with instances(one) as ready:
        made.set_instances(ready)
        asked = many(to, 3)
        await until(lambda: one.active == 1 and made.report().held == 2)
        await made.stop(10)
        assert statuses(await asyncio.gather(*asked)) == {200: 1, 503: 2}
        with pytest.raises(OSError):
            await ask(to)


@pytest.mark.parametrize(
    "framing", ["content-length: 600\r\n\r\n" + "x" * 600, "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"]
)
@in_loop
async def test_a_probe_with_a_body_is_a_request_like_any_other(framing: str) -> None:
    """It is held and handed on; what it brought would else be counted for ever."""
    one = Backend("one")
    async with activator(HoldRules(LONG_S, max_bytes=1000)) as (made, to), instances(one) as ready:
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(f"GET /healthz HTTP/1.1\r\nhost: t\r\n{framing}".encode())
        await holds(made, 1)
        made.set_instances(ready)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await until(lambda: made.report().handed_on == 0)
        assert made.report().held_bytes == 0


@in_loop
async def test_a_body_that_trickles_is_refused_in_time_and_frees_its_place() -> None:
    async with activator(HoldRules(LONG_S, max_requests=1), receive_limit_s=0.2) as (made, to):
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\nabc")
        await until(lambda: made.report().held == 1)
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        assert await reader.read()  # and the connection is closed
        writer.close()
        report = made.report()
        assert (report.held, report.held_bytes, report.refused) == (0, 0, {"slow": 1})


@in_loop
async def test_a_body_in_tiny_pieces_takes_no_more_memory_than_its_bytes() -> None:
    async with activator(HoldRules(LONG_S)) as (made, to):
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        before_bytes = _python_bytes()
        writer.write(b"1\r\nx\r\n" * 200_000)
        await until(lambda: made.report().held_bytes == 200_000)
        assert _python_bytes() - before_bytes < 1_000_000
        writer.close()
        await until(lambda: made.report().held_bytes == 0)
        assert not await reader.read()


def _python_bytes() -> int:
    """Of blocks that are kept; two snapshots of it cost less than tracemalloc."""
    gc.collect()
    return sum(sys.getsizeof(one) for one in gc.get_objects() if type(one) is list)


@in_loop
async def test_one_that_would_be_asked_for_its_body_is_refused_without_it() -> None:
    async with activator(HoldRules(LONG_S), max_body_bytes=1000) as (made, to):
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413")
        assert b"connection: close" in await reader.read()  # the body may follow or not: nobody can know
        writer.close()
        assert made.report().refused == {"too_large": 1}


@in_loop
async def test_trailers_and_headers_of_one_connection_end_here() -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(
            b"POST / HTTP/1.1\r\nhost: t\r\nconnection: keep-alive, X-Hop\r\nx-hop: 1\r\nx-end: 2\r\n"
            b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nauthorization: forged\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\none")
        writer.close()
        [request] = one.requests
        assert "authorization" not in request.headers
        assert "x-hop" not in request.headers
        assert request.headers["x-end"] == "2"


@pytest.mark.parametrize("path", ["/healthz", "/v1/detect"])
@in_loop
async def test_an_offer_to_upgrade_is_answered_once_and_without_one(path: str) -> None:
    one = Backend("one")
    async with activator(HoldRules(LONG_S)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nPRI".encode())
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1 ") == 1
        writer.close()
        assert all("upgrade" not in request.headers for request in one.requests)


@in_loop
async def test_an_interim_answer_to_head_is_not_the_answer_either() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with activator(HoldRules(LONG_S)) as (made, to), server:
        made.set_instances([Endpoint(*server.sockets[0].getsockname())])
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(b"HEAD / HTTP/1.1\r\nhost: t\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 103")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


@in_loop
async def test_an_early_answer_on_a_connection_that_stays_does_not_cut_the_body_short() -> None:
    """An instance that is full answers from the head, and reads the rest to be asked again."""
    got = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 429 X\r\ncontent-length: 2\r\n\r\nno")
            await asyncio.sleep(0.05)  # the answer is gone long before the body is
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            got.append(await reader.readexactly(length))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with activator(HoldRules(LONG_S)) as (made, to), server:
        made.set_instances([Endpoint(*server.sockets[0].getsockname())])
        bodies = [b"a" * 8_000_000, b"b" * 1000]
        caller = Caller(to)
        for body in bodies:
            assert (await caller.ask(body=body)).status == 429
        await until(lambda: len(got) == 2)
        assert got == bodies
        caller.leave()


@in_loop
async def test_the_last_instance_goes_while_requests_wait_and_one_is_asked_for() -> None:
    poked: list[int] = []
    one = Backend("one", delay_s=20)
    rules = HoldRules(LONG_S, concurrency=1)
    async with activator(rules, when_held=lambda: poked.append(1)) as (made, to), instances(one) as ready:
        made.set_instances(ready)
        asked = many(to, 3)
        await until(lambda: one.active == 1 and made.report().held == 2)
        assert poked == []
        made.set_instances([])
        await until(lambda: poked == [1])
        one.delay_s = 0
        for task in asked:
            task.cancel()


@in_loop
async def test_stopping_does_not_wait_for_a_caller_that_takes_nothing() -> None:
    one = Backend("one")
    one.body = bytes(20_000_000)
    made = Activator(HoldRules(LONG_S))
    to = await made.start()
    async with instances(one) as ready:
        made.set_instances(ready)
        with socket.create_connection((to.host, to.port)) as caller:
            caller.sendall(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
            await until(lambda: len(one.requests) == 1)
            await asyncio.sleep(0.1)
            await asyncio.wait_for(made.stop(0), 5)
            ours = psutil.Process().net_connections
            await until(lambda: not [one for one in ours("tcp") if one.laddr.port == to.port], limit_s=5)
