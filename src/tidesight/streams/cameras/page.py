"""What a browser, a player and Prometheus get of the cameras."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tidesight.streams.cameras.screen import Screen
from tidesight.streams.cameras.watch import Watch
from tidesight.telemetry import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOUNDARY = b"tidesight"
_TYPES = {"cameras.html": "text/html", "cameras.js": "text/javascript", "cameras.css": "text/css"}
_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
_SNAPSHOT_S = 5.0


def cameras_app(watch: Watch) -> Starlette:
    """The page, its stream of pictures, MJPEG of each camera, the state, the metrics."""
    page = _Page(watch)
    routes = [
        Route("/", page.html),
        Route("/{name}.js", page.asset),
        Route("/{name}.css", page.asset),
        Route("/pictures", page.pictures),
        Route("/status.json", page.status),
        Route("/cameras/{name}.mjpg", page.mjpeg),
        Route("/cameras/{name}.jpg", page.snapshot),
        Route("/metrics", page.metrics),
        Route("/healthz", page.health),
    ]

    @asynccontextmanager
    async def watching(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(watch.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return Starlette(routes=routes, lifespan=watching)


class _Page:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def html(self, _: Request) -> Response:
        return _file("cameras.html")

    async def asset(self, request: Request) -> Response:
        return _file(request.url.path.strip("/"))

    async def status(self, _: Request) -> Response:
        return JSONResponse(self._watch.status())

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def metrics(self, _: Request) -> Response:
        return Response(self._watch.telemetry.exposition(), media_type=CONTENT_TYPE)

    async def snapshot(self, request: Request) -> Response:
        screen = self._screen(request)
        with screen.watched():
            try:
                _, jpeg = await asyncio.wait_for(screen.after(screen.number), _SNAPSHOT_S)
            except TimeoutError:
                raise HTTPException(503, "no picture within five seconds") from None
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    async def mjpeg(self, request: Request) -> Response:
        media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        return StreamingResponse(_parts(self._screen(request)), media_type=media_type)

    async def pictures(self, _: Request) -> Response:
        """All cameras on one connection: a browser opens six to a host, and there may be more cameras than that."""
        screens = {name: watched.screen for name, watched in self._watch.cameras.items()}
        return StreamingResponse(_framed(screens), media_type="application/octet-stream")

    def _screen(self, request: Request) -> Screen:
        name = request.path_params["name"]
        if name not in self._watch.cameras:
            raise HTTPException(404, f"no camera {name}; there are: {', '.join(self._watch.cameras)}")
        return self._watch.cameras[name].screen


async def _parts(screen: Screen) -> AsyncIterator[bytes]:
    async for jpeg in screen.pictures():
        head = b"--%b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (_BOUNDARY, len(jpeg))
        yield head + jpeg + b"\r\n"


async def _framed(screens: "Mapping[str, Screen]") -> AsyncIterator[bytes]:
    """For each picture: length of a head (4 bytes, big-endian), the head in JSON, the JPEG of `bytes` bytes."""
    newest: dict[str, bytes] = {}
    changed = asyncio.Event()

    async def follow(name: str, screen: Screen) -> None:
        async for jpeg in screen.pictures():
            newest[name] = jpeg
            changed.set()

    tasks = [asyncio.create_task(follow(name, screen)) for name, screen in screens.items()]
    try:
        while True:
            await changed.wait()
            changed.clear()
            while newest:
                name, jpeg = newest.popitem()
                head = json.dumps({"camera": name, "bytes": len(jpeg)}).encode()
                yield len(head).to_bytes(4, "big") + head + jpeg
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _file(name: str) -> Response:
    if name not in _TYPES:
        raise HTTPException(404)
    content = (files("tidesight.streams.cameras") / "web" / name).read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return Response(content, media_type=_TYPES[name], headers=headers)
