"""The files a browser gets: the page's own, those it shares with an instance's pages, and Plotly's script."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tidesight.errors import MissingExtra

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page() -> Response:
    """The page itself."""
    return _file("index.html")


async def asset(request: Request) -> Response:
    """A script, style or picture of the page."""
    return _file(request.path_params["name"])


async def plotly(request: Request) -> Response:
    """Plotly's script, 4.8 MB that stay the same until the package is updated: a browser need not ask twice."""
    headers = {"Cache-Control": "private, max-age=86400"}
    reply = FileResponse(plotly_script(), headers=headers, media_type=_TYPES[".js"])
    reply.set_stat_headers(plotly_script().stat())
    if request.headers.get("if-none-match") == reply.headers["etag"]:
        return Response(status_code=304, headers={**headers, "ETag": reply.headers["etag"]})
    return reply


@cache
def plotly_script() -> Path:
    """Where the package has it; it is not imported.

    Raises:
        MissingExtra: there is no such package.
    """
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise MissingExtra("plotly", "fleet")
    return Path(found.origin).parent / "package_data" / "plotly.min.js"


@cache
def _contents() -> dict[str, bytes]:
    here = Path(__file__).parent
    folders = (here.parent.parent / "web", here / "web")
    return {entry.name: entry.read_bytes() for folder in folders for entry in folder.iterdir() if entry.is_file()}


def _file(name: str) -> Response:
    suffix = name[name.rfind(".") :]
    if suffix not in _TYPES or name not in _contents():
        raise HTTPException(404)
    return Response(_contents()[name], headers={"Cache-Control": "no-cache"}, media_type=_TYPES[suffix])
