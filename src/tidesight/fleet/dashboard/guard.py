"""What holds for every request to the page and every reply: who may ask, what a browser may do with it."""

from collections.abc import Mapping

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Plotly is told by charts.css not to make style elements of its own, so that none need be allowed.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as RFC 9457 problem details."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/problem+json")


async def guarded(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an application answer, behind the check of the Host header and with the headers of every reply.

    A site that a browser visits can give its own name the address 127.0.0.1 (DNS rebinding) and would then read the
    page as its own; but the browser still says the site's name.
    """

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_RAW_HEADERS]
        await send(message)

    if scope["type"] == "http" and not _is_loopback(Headers(scope=scope).getlist("host")):
        refusal = problem(421, "Misdirected request", "ask for localhost or 127.0.0.1, by that name")
        await refusal(scope, receive, send_guarded)
        return
    await app(scope, receive, send_guarded)


def _is_loopback(hosts: list[str]) -> bool:
    if len(hosts) != 1:
        return False
    name, colon, port = hosts[0].lower().rpartition(":")
    return (name if colon and port.isdigit() else hosts[0].lower()) in _LOOPBACK
