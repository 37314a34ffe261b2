"""An instance's life: listen at once, become ready when the model is warm, drain on SIGTERM, exit 0."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn

from tidesight import __version__
from tidesight.detection.annotate import warm_up_drawing
from tidesight.errors import ConfigError
from tidesight.serving.app import create_app
from tidesight.serving.http_protocol import HttpProtocol
from tidesight.serving.instance import Instance, Ready, State

log = logging.getLogger(__name__)
_BACKLOG = 2048
_KEEP_ALIVE_S = 620  # longer than the 600 s of Google's load balancers, which must be the ones to close


@dataclass(frozen=True)
class ServerSettings:
    """How an instance listens and leaves.

    Attributes:
        host: Address to listen on.
        port: Port; 0 takes a free one, which is announced.
        lame_duck_s: After SIGTERM, seconds of unreadiness during which requests are still accepted, so
            that load balancers notice first.
        grace_s: After that, seconds for accepted requests to finish.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    lame_duck_s: float = 0.0
    grace_s: float = 10.0


def run(instance: Instance, load: Callable[[], Ready], settings: ServerSettings) -> int:
    """Run an instance until it is told to stop.

    Args:
        instance: Its state.
        load: Loads and warms the model; runs beside the listening server.
        settings: How to listen and leave.

    Returns:
        The exit code: 0 after a drain, 1 when accepted requests had to be abandoned.

    Raises:
        ConfigError: the address cannot be listened on.
        TidesightError: what `load` raised.
    """
    listener = _listen(settings)
    server = _Server(instance, load, settings)
    server.loader.start()
    server.run(sockets=[listener])
    return server.finish()


class _Server(uvicorn.Server):
    """Uvicorn, with our start and end of life."""

    def __init__(self, instance: Instance, load: Callable[[], Ready], settings: ServerSettings) -> None:
        config = uvicorn.Config(
            create_app(instance),
            http=HttpProtocol,
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(settings.grace_s)),
        )
        super().__init__(config)
        self._instance = instance
        self._load = load
        self._lame_duck_s = settings.lame_duck_s
        self._failure: Exception | None = None
        self.loader = threading.Thread(target=self._load_model, name="loader", daemon=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Announce the address once signals are handled and connections accepted."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"Tidesight {__version__} listens on http://{shown}:{port}  (playground /, API /docs)", flush=True)

    def _load_model(self) -> None:
        """Load beside the listening server, which answers 503 meanwhile."""
        try:
            ready = self._load()
        except Exception as error:
            self._failure = error
            self.should_exit = True
        else:
            ready.workers.start()
            log.info("ready: %s, %d workers", ready.model.name, len(ready.workers))
            self._instance.became_ready(ready)
            warm_up_drawing()  # after readiness: only the first annotated picture would pay for it

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: unready now, drain after the lame-duck time. Second: leave at once."""
        if self._instance.state is State.DRAINING:
            self.force_exit = self.should_exit = True
            return
        log.info("%s: draining", signal.Signals(sig).name)
        self._instance.drain()
        timer = threading.Timer(self._lame_duck_s, self._stop_listening)
        timer.daemon = True
        timer.start()

    def _stop_listening(self) -> None:
        self.should_exit = True

    def finish(self) -> int:
        """End the workers; the exit code.

        Raises:
            TidesightError: the model could not be loaded.
        """
        if self._failure is not None:
            raise self._failure
        if self._instance.abandoned:
            log.error("abandoned %d requests", self._instance.abandoned)
            leave_at_once(1)
        if self.loader.is_alive():
            leave_at_once(0)
        self._instance.stop_workers()
        return 0


def leave_at_once(code: int) -> None:
    """End the process under threads that are inside native code: Python's own way out would abort in them."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {reason}", field="port") from None
    listener.listen(_BACKLOG)
    return listener
