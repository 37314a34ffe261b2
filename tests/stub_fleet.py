"""A fleet that answers from the bytes it is sent, and misbehaves as told: for tests of what asks a fleet."""

import asyncio
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

CLASSES = ["person", "car"]


@dataclass
class Asked:
    """One request as it came."""

    number: int
    body: bytes
    headers: dict[str, str]
    query: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """What to do with a request; `reset` breaks its connection."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    wait_s: float = 0.0
    reset: bool = False


@dataclass
class StubFleet:
    """Where it is, what it was asked, and whether something before it holds requests: that answers probes, wordless."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    held: bool = False


def detections_of(body: bytes) -> dict[str, Any]:
    """An answer that only these bytes have."""
    pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    height, width = pixels.shape[:2]
    number = zlib.crc32(body)
    left, top = number % (width // 2), number // 7 % (height // 2)
    found = {
        "box": [left, top, left + width / 4, top + height / 4],
        "score": 0.25 + number % 7000 / 1e4,
        "class_id": number % 2,
        "label": CLASSES[number % 2],
    }
    return {"id": "x", "model": {"name": "stub"}, "image": {"width": width, "height": height}, "detections": [found]}


@contextmanager
def stub_fleet(behave: Callable[[Asked], Reply] = lambda _: Reply()) -> Iterator[StubFleet]:
    """A server on a free port, in a thread of its own, until the block is left."""
    from aiohttp import web

    fleet = StubFleet("")
    loop = asyncio.new_event_loop()

    async def ready(request: web.Request) -> web.Response:
        if fleet.held and not request.query_string:
            return web.Response()
        model = {"name": "stub", "input": [96, 96], "classes": CLASSES}
        return web.json_response({"status": "ready", "model": model})

    async def detect(request: web.Request) -> web.Response:
        asked = Asked(len(fleet.asked), await request.read(), dict(request.headers), dict(request.query))
        fleet.asked.append(asked)
        fleet.at_once += 1
        fleet.most_at_once = max(fleet.most_at_once, fleet.at_once)
        try:
            reply = behave(asked)
            if reply.wait_s:
                await asyncio.sleep(reply.wait_s)
            if reply.reset:
                assert request.transport is not None
                request.transport.abort()
            if reply.body is None and reply.status == 200:
                return web.json_response(detections_of(asked.body))
            return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
        finally:
            fleet.at_once -= 1

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=1 << 26)
        app.add_routes([web.get("/readyz", ready), web.post("/v1/detect", detect)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fleet.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield fleet
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
