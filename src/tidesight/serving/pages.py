"""The pages an instance serves: the playground, the API documentation, and the files they load."""

from functools import cache
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidesight.serving.instance import Instance

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# X-Content-Type-Options is on every reply, see app.py; Strict-Transport-Security is for what ends TLS in front.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def routes() -> list[Route]:
    """Routes of the pages."""
    return [
        Route("/", playground),
        Route("/docs", docs),
        Route("/openapi.json", openapi),
        Route("/web/{name}", asset),
    ]


async def playground(request: Request) -> Response:
    """Drop a picture, see its boxes."""
    return _file("index.html")


async def docs(request: Request) -> Response:
    """The API, readable."""
    return _file("docs.html")


async def asset(request: Request) -> Response:
    """A script, style or picture of a page."""
    return _file(request.path_params["name"])


async def openapi(request: Request) -> Response:
    """The API as an OpenAPI 3.1 document."""
    from tidesight.serving.openapi import document

    instance: Instance = request.app.state.instance
    return Response(msgspec.json.encode(document(instance.api_keys.required)), media_type="application/json")


@cache
def _contents() -> dict[str, bytes]:
    """All files of the pages, and what they share with those of a fleet; they are few and small."""
    here = Path(__file__).parent
    folders = (here.parent / "web", here / "web")
    return {entry.name: entry.read_bytes() for folder in folders for entry in folder.iterdir() if entry.is_file()}


def _file(name: str) -> Response:
    suffix = name[name.rfind(".") :]
    if suffix not in _TYPES or name not in _contents():
        raise HTTPException(404)
    return Response(_contents()[name], headers=_HEADERS, media_type=_TYPES[suffix])
