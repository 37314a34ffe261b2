"""The page's server, in the loop of the cameras."""

import socket

import uvicorn
from starlette.applications import Starlette

_LEAVE_S = 1  # viewers hold their connections for ever; they are not waited for


async def serve(app: Starlette, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        OSError: the address cannot be listened on.
    """
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    with listener:
        shown = f"[{host}]" if ":" in host else host
        print(f"Tidesight cameras: http://{shown}:{listener.getsockname()[1]}  (metrics at /metrics)", flush=True)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_LEAVE_S)
        await uvicorn.Server(config).serve(sockets=[listener])
