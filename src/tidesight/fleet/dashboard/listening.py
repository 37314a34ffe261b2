"""The page on the loopback address, inside the event loop that runs already."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from tidesight.errors import ConfigError
from tidesight.fleet.dashboard.stream import Stream

_HOST = "127.0.0.1"
_LEAVE_S = 0.5  # for replies under way; an event stream that is read needs far less
_SEND_BUFFER_BYTES = 64 * 1024  # small, so that what a reader that stands still has before it is not old
_MOST_CONNECTIONS = 256


class _Server(uvicorn.Server):
    """Uvicorn without a hand in signals: those are the fleet's."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave them."""
        yield


@asynccontextmanager
async def serve_page(app: Starlette, port: int = 0) -> AsyncGenerator[str]:
    """Inside, the page answers; its address is given. At the end it stops within a second, open streams included.

    Args:
        app: See `make_app`.
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is in use, or may not be used.
    """
    listening = _listen(port)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://{_HOST}:{listening.getsockname()[1]}"
    finally:
        stream: Stream = app.state.stream
        stream.close()
        server.should_exit = True
        await asyncio.wait({serving}, timeout=_LEAVE_S)
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await serving


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listening.bind((_HOST, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        told = f"the page cannot listen on {_HOST}:{port} ({error}); choose another port, or 0 for a free one"
        raise ConfigError(told) from None
    return listening
