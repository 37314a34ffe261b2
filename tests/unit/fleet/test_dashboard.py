"""The page's application: what it answers to whom, and how a reader of its events is served."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import fields
from typing import Any

import httpx
import msgspec
import pytest

from tests.unit.fleet.scripted import ScriptedFleet, decision, instance, snapshot, tide
from tidesight.errors import ConfigError, Unavailable
from tidesight.fleet.dashboard.listening import serve_page
from tidesight.fleet.dashboard.points import History, Point, point_of
from tidesight.fleet.dashboard.server import TOKEN_HEADER, make_app
from tidesight.fleet.dashboard.stream import Stream
from tidesight.fleet.snapshot import Snapshot

TOKEN = "token-of-the-tests"
ASKED = Callable[[httpx.AsyncClient, ScriptedFleet], Awaitable[Any]]


def asked(ask: ASKED, fleet: ScriptedFleet | None = None, host: str = "127.0.0.1:8000") -> Any:
    """What `ask` makes of the application of a fleet."""

    async def run() -> Any:
        shown = fleet or ScriptedFleet()
        transport = httpx.ASGITransport(make_app(shown, TOKEN))
        async with httpx.AsyncClient(transport=transport, base_url="http://page", headers={"Host": host}) as client:
            return await ask(client, shown)

    return asyncio.run(run())


def scale(body: bytes, token: str | None = TOKEN) -> tuple[httpx.Response, list[int | None]]:
    """The answer, and what came of it."""

    async def ask(client: httpx.AsyncClient, fleet: ScriptedFleet) -> tuple[httpx.Response, list[int | None]]:
        headers = {} if token is None else {TOKEN_HEADER: token}
        return await client.post("/api/scale", content=body, headers=headers), fleet.scaled

    reply: tuple[httpx.Response, list[int | None]] = asked(ask)
    return reply


def get(path: str, fleet: ScriptedFleet | None = None, host: str = "127.0.0.1:8000", etag: str = "") -> httpx.Response:
    headers = {"If-None-Match": etag} if etag else {}
    reply: httpx.Response = asked(lambda client, _: client.get(path, headers=headers), fleet, host)
    return reply


@pytest.mark.parametrize(
    ("token", "failure", "status", "told"),
    [
        (TOKEN, None, 200, '"replaced":2'),
        ("wrong", None, 403, "tidesight scale"),
        (TOKEN, ConfigError("are being replaced already"), 409, "are being replaced already"),
        (TOKEN, Unavailable("i3 did not become ready"), 503, "i3 did not become ready"),
    ],
)
def test_whoever_has_the_token_replaces(token: str, failure: Exception | None, status: int, told: str) -> None:
    fleet = ScriptedFleet()
    fleet.failure = failure
    reply = asked(lambda client, _: client.post("/api/replace", headers={TOKEN_HEADER: token}), fleet)
    assert (reply.status_code, told in reply.text) == (status, True)


def test_status_is_the_snapshot() -> None:
    shown = tide(200)
    assert msgspec.json.decode(get("/api/status", ScriptedFleet(shown)).content, type=Snapshot) == shown


@pytest.mark.parametrize("body, asked_for", [(b'{"count": 3}', 3), (b'{"count": null}', None)])
def test_whoever_has_the_token_scales(body: bytes, asked_for: int | None) -> None:
    reply, scaled = scale(body)
    assert (reply.status_code, reply.json(), scaled) == (200, {"count": asked_for}, [asked_for])


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], f"{TOKEN} "[::-1], "tok\xe9n"])
def test_nobody_else_scales(token: str | None) -> None:
    reply, scaled = scale(b'{"count": 3}', token if token is None else token.encode("latin-1"))  # type: ignore[arg-type]
    assert (reply.status_code, scaled) == (403, [])
    assert reply.headers["content-type"] == "application/problem+json"
    assert TOKEN_HEADER in reply.json()["detail"]


@pytest.mark.parametrize("count", [0, 9])
def test_a_count_out_of_bounds_is_answered_in_the_fleets_words(count: int) -> None:
    reply, scaled = scale(json.dumps({"count": count}).encode())
    assert (reply.status_code, scaled) == (422, [])
    assert reply.json()["detail"] == f"count: expected 1 to 8, got {count}"


@pytest.mark.parametrize(
    "body", [b"", b"3", b"{}", b'{"count": "3"}', b'{"count": 3.5}', b'{"count": -1}', b'{"count": 3, "now": true}']
)
def test_what_is_no_count_changes_nothing(body: bytes) -> None:
    reply, scaled = scale(body)
    assert (reply.status_code, scaled) == (422, [])
    assert reply.json()["title"] == "Invalid count"


def test_a_body_beyond_reason_is_not_read() -> None:
    reply, scaled = scale(b'{"count": 3' + b" " * 2000 + b"}")
    assert (reply.status_code, reply.json()["title"], scaled) == (413, "Too large", [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "[::1]:80", "LOCALHOST", "[::1]"])
def test_loopback_names_are_answered(host: str) -> None:
    assert get("/api/status", host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "", "127.0.0.2", "a:b:c"]
)
@pytest.mark.parametrize("path", ["/", "/api/status", "/events", "/web/fleet.js", "/nothing"])
def test_other_names_are_not(host: str, path: str) -> None:
    reply = get(path, host=host)
    assert reply.status_code == 421
    assert "platform" not in reply.text


@pytest.mark.parametrize("path", ["/", "/api/status", "/api/history", "/web/fleet.css", "/plotly.min.js", "/nothing"])
def test_every_reply_tells_the_browser_what_it_may_do(path: str) -> None:
    headers = get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/web/..%2Fserver.py", "/web/server.py", "/web/", "/web/../server.py", "/docs"])
def test_only_the_pages_files_are_given(path: str) -> None:
    reply = get(path)
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/status", "/events", "/"])
def test_nothing_else_takes_a_post(path: str) -> None:
    reply = asked(lambda client, _: client.post(path))
    assert (reply.status_code, reply.json()["title"]) == (405, "Method not allowed")


def test_plotly_is_asked_for_once() -> None:
    first = get("/plotly.min.js")
    assert "max-age=86400" in first.headers["cache-control"]
    assert b"plotly.js" in first.content[:100]
    again = get("/plotly.min.js", etag=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")


def test_history_is_columns_with_the_latest_last() -> None:
    earlier = [tide(float(at_s)) for at_s in range(100, 160)]
    past = get("/api/history", ScriptedFleet(tide(160), earlier)).json()
    points = past["points"]
    assert list(points) == [field.name for field in fields(Point)]
    assert points["at_s"] == [float(at_s) for at_s in range(100, 161)]
    assert {len(column) for column in points.values()} == {61}
    assert points["ready"][-1] == sum(one.state == "ready" for one in tide(160).instances)
    assert points["offered_per_s"][0] == earlier[0].front.offered_per_s


def test_history_has_every_decision_once() -> None:
    one, two, three = decision(1, 1, 2), decision(2, 2, 3), decision(3, 3, 1)
    earlier = [snapshot(1.5, decisions=(one,)), snapshot(2.5, decisions=(two, one))]
    past = get("/api/history", ScriptedFleet(snapshot(3.5, decisions=(three, two)), earlier)).json()
    assert [told["at_s"] for told in past["decisions"]] == [3, 2, 1]


def test_history_works_a_point_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out: list[float] = []

    def counting(one: Snapshot) -> Point:
        worked_out.append(one.at_s)
        return point_of(one)

    monkeypatch.setattr("tidesight.fleet.dashboard.points.point_of", counting)
    fleet = ScriptedFleet(tide(3), [tide(1), tide(2)])
    history = History(fleet)
    history.columns()
    fleet.show(tide(4))
    assert history.columns()["points"]["at_s"] == [1, 2, 3, 4]
    assert worked_out == [1, 2, 3, 4]


def test_what_is_not_known_is_not_0() -> None:
    unknown = instance(1, "starting")
    point = point_of(snapshot(instances=(unknown,), cost=None))
    assert (point.cpu, point.memory_bytes, point.queued, point.usd_per_hour) == (None, None, None, None)
    known = point_of(snapshot(instances=(unknown, instance(2, cpu=0.5), instance(3, cpu=0.0))))
    assert known.cpu == 0.5


def events(raw: bytes) -> list[tuple[str, Any]]:
    """Names and data."""
    found = []
    for block in raw.decode().split("\n\n"):
        lines = {name: value.strip() for name, _, value in (line.partition(":") for line in block.splitlines())}
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"] or "null")))
    return found


def test_a_slow_reader_gets_the_newest_and_not_what_was_between() -> None:
    async def run() -> list[float]:
        fleet = ScriptedFleet(snapshot(0))
        seen = []
        async with aclosing(Stream(fleet, pause_s=0).events()) as stream:
            await anext(stream)  # when to come again
            for newest in (1, 50, 90):
                told = dict(events(await anext(stream)))
                seen.append(told["snapshot"]["at_s"])
                assert told["point"]["at_s"] == told["snapshot"]["at_s"]
                for at_s in range(int(seen[-1]) + 1, newest + 1):
                    fleet.show(snapshot(at_s))
            seen.append(dict(events(await anext(stream)))["snapshot"]["at_s"])
        return seen

    assert asyncio.run(run()) == [0, 1, 50, 90]


def test_a_snapshot_is_encoded_once_for_all_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out: list[float] = []

    def counting(one: Snapshot) -> Point:
        worked_out.append(one.at_s)
        return point_of(one)

    monkeypatch.setattr("tidesight.fleet.dashboard.stream.point_of", counting)

    async def run() -> None:
        fleet = ScriptedFleet(snapshot(7))
        stream = Stream(fleet)
        readers = [stream.events() for _ in range(20)]
        for reader in readers:
            await anext(reader)
            await anext(reader)
            await reader.aclose()
        assert stream.readers == 0

    asyncio.run(run())
    assert worked_out == [7]


def test_a_fleet_that_stands_still_is_known_to_be_alive() -> None:
    async def run() -> list[str]:
        fleet = ScriptedFleet()
        async with aclosing(Stream(fleet, alive_s=0.01, pause_s=0).events()) as stream:
            told = [await anext(stream) for _ in range(4)]
        assert fleet.waiting == 0
        return [name for name, _ in events(b"".join(told))]

    assert asyncio.run(run()) == ["snapshot", "point", "alive", "alive"]


async def read_until(reader: asyncio.StreamReader, word: bytes) -> bytes:
    """All that comes up to the end of `word`."""
    async with asyncio.timeout(10):
        return await reader.readuntil(word)


@asynccontextmanager
async def reading(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, Any]]:
    """A plain connection that has asked for the events, and its transport."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**23)
    try:
        writer.write(f"GET /events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        yield reader, writer.transport
    finally:
        writer.transport.abort()


def test_as_many_readers_as_there_is_room_for() -> None:
    async def run() -> None:
        app = make_app(ScriptedFleet(), TOKEN)
        async with serve_page(app) as url, httpx.AsyncClient(base_url=url) as client, AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(reading(url)) for _ in range(32)]
            for reader, _ in readers:
                assert b"200 OK" in await read_until(reader, b"event: snapshot")
            refused = await client.get("/events")
            assert (refused.status_code, refused.json()["title"]) == (503, "Too many readers")
            assert refused.headers["retry-after"] == "5"
            readers[0][1].abort()
            async with asyncio.timeout(10):
                while app.state.stream.full:
                    await asyncio.sleep(0.01)
            reader, _ = await stack.enter_async_context(reading(url))
            assert b"200 OK" in await read_until(reader, b"event: snapshot")

    asyncio.run(run())


MANY = tuple(instance(slot) for slot in range(300))  # some 90 kB each time


async def show_a_hundred(fleet: ScriptedFleet, reader: asyncio.StreamReader) -> None:
    """One after the other, each when the one before has been read."""
    for at_s in range(1, 101):
        fleet.show(snapshot(float(at_s), instances=MANY))
        await read_until(reader, b'event: point\ndata: {"at_s":%d.0' % at_s)


def test_a_reader_that_stands_still_holds_up_nobody_and_no_memory() -> None:
    async def run() -> int:
        fleet = ScriptedFleet(snapshot(0, instances=MANY))
        app = make_app(fleet, TOKEN, Stream(fleet, pause_s=0))
        async with serve_page(app) as url, reading(url) as (still, transport), reading(url) as (reader, _):
            await read_until(still, b"event: snapshot")
            transport.pause_reading()
            await show_a_hundred(fleet, reader)
            transport.resume_reading()
            passed = await read_until(still, b'event: point\ndata: {"at_s":100.0')
            return passed.count(b"event: snapshot")

    assert asyncio.run(run()) < 60  # what fits in the buffers of the connection, and then the newest


def test_the_end_is_told_and_takes_less_than_a_second() -> None:
    async def run() -> tuple[bytes, float]:
        fleet = ScriptedFleet(snapshot(0, instances=MANY))
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            async with serve_page(make_app(fleet, TOKEN, Stream(fleet, pause_s=0))) as url:
                _, transport = await stack.enter_async_context(reading(url))
                transport.pause_reading()
                reader, _ = await stack.enter_async_context(reading(url))
                await show_a_hundred(fleet, reader)
                began_s = loop.time()
            return await reader.read(), loop.time() - began_s

    rest, took_s = asyncio.run(run())
    assert b"event: end" in rest
    assert took_s < 1.0


def test_a_port_in_use_is_said() -> None:
    async def run(port: int) -> None:
        async with serve_page(make_app(ScriptedFleet(), TOKEN), port):
            raise AssertionError("it listens")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigError, match=r"choose another port"):
            asyncio.run(run(taken.getsockname()[1]))
        with pytest.raises(ConfigError, match=r"choose another port"):
            asyncio.run(run(70_000))
