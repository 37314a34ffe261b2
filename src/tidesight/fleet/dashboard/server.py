"""The HTTP application of a fleet's page: which path is answered by which file.

GET  /              the page; its files at /web/, Plotly's script at /plotly.min.js    assets.py
GET  /api/status    the latest snapshot                                               fleet/snapshot.py
GET  /api/history   the last minutes as columns, for the charts                       points.py
GET  /events        each snapshot as it comes, as server-sent events                  stream.py
POST /api/scale     {"count": 3}, or null for what the policy says; needs the token
POST /api/replace   every instance by a new one; answers when that is done; needs the token

Before any of them, guard.py. Only the last two change anything, and only they ask for the token: what is shown is no
secret to whoever may open a connection to this machine's loopback address.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tidesight.errors import ConfigError, Unavailable
from tidesight.fleet.dashboard import assets
from tidesight.fleet.dashboard.guard import guarded, problem
from tidesight.fleet.dashboard.points import History
from tidesight.fleet.dashboard.stream import Stream
from tidesight.fleet.dashboard.view import FleetView

__all__ = ["TOKEN_HEADER", "FleetView", "make_app"]
TOKEN_HEADER = "X-Tidesight-Token"  # noqa: S105
_MOST_BODY_BYTES = 1024
_BODY_LIMIT_S = 5.0


class _Scale(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=0)] | None


class _Guarded(Starlette):
    """The application behind what holds for every request and every reply."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await guarded(super().__call__, scope, receive, send)


class _EventsReply(StreamingResponse):
    """A stream that is closed as soon as its reader has left."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store"}, media_type="text/event-stream")
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


def make_app(view: FleetView, token: str, stream: Stream | None = None) -> Starlette:
    """The page of a fleet.

    Args:
        view: The fleet.
        token: What `X-Tidesight-Token` must say to change something.
        stream: Of snapshots; as is usual by default.

    Raises:
        MissingExtra: Plotly is not installed.
    """
    assets.plotly_script()
    handlers = {HTTPException: _http_error, Exception: _unknown_error}
    app = _Guarded(
        routes=[
            Route("/", index),
            Route("/web/{name}", assets.asset),
            Route("/plotly.min.js", assets.plotly),
            Route("/api/status", status),
            Route("/api/history", history),
            Route("/api/scale", scale, methods=["POST"]),
            Route("/api/replace", replace, methods=["POST"]),
            Route("/events", events),
        ],
        exception_handlers=handlers,  # type: ignore[arg-type]  # invariant key type
    )
    app.router.redirect_slashes = False
    app.state.view = view
    app.state.token = token
    app.state.history = History(view)
    app.state.stream = stream or Stream(view)
    return app


async def index(request: Request) -> Response:
    """The page."""
    return assets.page()


async def status(request: Request) -> Response:
    """The latest snapshot."""
    view: FleetView = request.app.state.view
    return _json(view.snapshot())


async def history(request: Request) -> Response:
    """The last minutes, as columns."""
    past: History = request.app.state.history
    return _json(past.columns())


async def events(request: Request) -> Response:
    """Each snapshot as it comes."""
    stream: Stream = request.app.state.stream
    if stream.full:
        told = "as many pages as may be are open; close one, or ask GET /api/status"
        return problem(503, "Too many readers", told, {"Retry-After": "5"})
    return _EventsReply(stream.events())


async def scale(request: Request) -> Response:
    """Pin the count of instances, or hand back to the policy."""
    if refusal := _without_token(request):
        return refusal
    try:
        wanted = msgspec.json.decode(await _body(request), type=_Scale)
    except msgspec.DecodeError as error:
        return problem(422, "Invalid count", f'expected {{"count": N}} or {{"count": null}}: {error}')
    view: FleetView = request.app.state.view
    try:
        view.scale(wanted.count)
    except ConfigError as error:
        return problem(422, "Count out of bounds", error.detail)
    return _json(wanted)


async def replace(request: Request) -> Response:
    """Replace every instance, one after another."""
    if refusal := _without_token(request):
        return refusal
    view: FleetView = request.app.state.view
    try:
        return _json({"replaced": await view.replace_all()})
    except ConfigError as error:
        return problem(409, "Under way", error.detail)
    except Unavailable as error:
        return problem(503, "Not replaced", error.detail)


def _without_token(request: Request) -> Response | None:
    given, expected = request.headers.get(TOKEN_HEADER, ""), str(request.app.state.token)
    if secrets.compare_digest(given.encode(), expected.encode()):
        return None
    told = (
        f"{TOKEN_HEADER} is missing or wrong; use `tidesight scale` or `replace`, or open the page as `up` printed it"
    )
    return problem(403, "Token needed", told)


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_BODY_LIMIT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > _MOST_BODY_BYTES:
                    raise HTTPException(413, f"more than {_MOST_BODY_BYTES} bytes; send only the count")
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"the body did not arrive within {_BODY_LIMIT_S:g} s") from None
    return body


def _json(value: object) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), headers=headers, media_type="application/json")


async def _http_error(request: Request, error: HTTPException) -> Response:
    detail = _ADVICE.get(error.status_code, error.detail)
    return problem(error.status_code, _TITLES.get(error.status_code, error.detail), detail, error.headers)


async def _unknown_error(request: Request, error: Exception) -> Response:
    return problem(500, "Internal error", "an error of the page; the log of `tidesight up` says more")


_TITLES = {404: "Not found", 405: "Method not allowed", 408: "Body too slow", 413: "Too large"}
_ADVICE = {
    404: "no such path; the page is at /, the figures are at /api/status and /api/history",
    405: "only POST /api/scale and /api/replace change anything; the rest answers GET",
}
