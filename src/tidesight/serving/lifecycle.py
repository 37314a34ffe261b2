"""An instance's life: listen at once, become ready when the model is warm, drain on SIGTERM, exit 0.

The end, step by step:

1. The first SIGTERM (or SIGINT) takes readiness away. For `lame_duck_s` requests are still accepted, on new connections
   too; every answer closes its connection, so that callers move on before listening ends.
2. Listening ends. What was accepted has `grace_s` to be finished: read, worked on, stored, answered.
3. The results that wait on the local disk have `store_drain_s` to be uploaded. Exit 0.

Exit 1, with the count of what was abandoned in the log: a second signal (at once, in every step), or the grace time is
over (what is left is answered 503, and step 3 follows). Also, after step 2, when workers were lost that cannot be
replaced (`WorkerPool.broken`): only a new process helps, and not every platform has a liveness probe, but each replaces
an instance that ends.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from types import FrameType
from typing import NoReturn

import uvicorn

from tidesight import __version__
from tidesight.detection.annotate import warm_up_drawing
from tidesight.errors import ConfigError, ModelError
from tidesight.logs import THREAD_NAME as LOG_THREAD
from tidesight.serving.app import create_app
from tidesight.serving.http_protocol import HttpProtocol
from tidesight.serving.instance import Instance, Ready

log = logging.getLogger(__name__)
_BACKLOG = 2048
_WATCH_S = 0.1
_CLOSING_S = 1.0  # for results that close in time to say so
_CLOSE = (b"connection", b"close")
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
        store_drain_s: After that, seconds for results to be uploaded.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    lame_duck_s: float = 0.0
    grace_s: float = 10.0
    store_drain_s: float = 5.0


def run(
    instance: Instance, load: Callable[[], Ready], close_results: Callable[[float], None], settings: ServerSettings
) -> int:
    """Run an instance until it is told to stop; ends the process when a thread is left that cannot be ended.

    Args:
        instance: Its state.
        load: Loads and warms the model; runs beside the listening server.
        close_results: Uploads the results that wait, within the seconds it is given.
        settings: How to listen and leave.

    Returns:
        The exit code: 0 after a drain, 1 when something had to be abandoned.

    Raises:
        ConfigError: the address cannot be listened on.
        TidesightError: what `load` raised.
    """
    server = _Server(instance, load, settings)
    try:
        listener = _listen(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.leave)  # outside of serving, when the server has its own
        server.loader.start()
        server.run(sockets=[listener])
        code = server.finish()
    finally:
        _close_in_time(close_results, settings.store_drain_s)
    instance.stop_workers()
    if any(thread.name not in ("MainThread", LOG_THREAD) for thread in threading.enumerate()):
        leave_at_once(code)
    return code


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
            timeout_graceful_shutdown=max(0.1, settings.grace_s),  # type: ignore[arg-type]  # a fraction does as well
        )
        super().__init__(config)
        self._instance = instance
        instance.connections = lambda: len(self.server_state.connections)
        self._load = load
        self._lame_duck_s = settings.lame_duck_s
        self._failure: Exception | None = None
        self._broken = False
        self._signalled = False  # which a drain is not: lost workers begin one, too
        self._hurried = False
        self.loader = threading.Thread(target=self._load_model, name="loader", daemon=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Announce the address once signals are handled and connections accepted."""
        await super().startup(sockets)
        self._watching = asyncio.create_task(self._watch_workers())
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"Tidesight {__version__} listens on http://{shown}:{port}  (playground /, API /docs)", flush=True)

    def _load_model(self) -> None:
        """Load beside the listening server, which answers 503 meanwhile."""
        try:
            ready = self._load()
            ready.workers.start()
        except BaseException as error:  # an engine may raise what it likes
            self._failure = error if isinstance(error, Exception) else ModelError(f"loading ended with {error!r}")
            self.should_exit = True
        else:
            log.info("ready: %s, %d workers", ready.model.name, len(ready.workers))
            self._instance.became_ready(ready)
            warm_up_drawing()  # after readiness: only the first annotated picture would pay for it

    async def _watch_workers(self) -> None:
        """Replace lost workers, during a drain too; begin one when that is no longer possible."""
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                workers = self._instance.watch_workers(perf_counter())
            except Exception:
                log.exception("watching the workers failed")
                continue
            if workers and workers.broken:
                if not self._broken:
                    log.critical("a new process is needed: %s", workers.broken)
                    self._instance.drain()
                self._broken = self.should_exit = True
                self.force_exit = self.force_exit or workers.at_work == 0  # nobody is left to do what waits

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: unready now, drain after the lame-duck time. Second: leave at once."""
        if self._signalled:
            self._hurried = self.force_exit = self.should_exit = True
            return
        self._signalled = True
        log.info("%s: draining", signal.Signals(sig).name)
        self._instance.drain()
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers.append(_CLOSE)  # made from the above, but once a second
        timer = threading.Timer(self._lame_duck_s, self._stop_listening)
        timer.daemon = True
        timer.start()

    def _stop_listening(self) -> None:
        self.should_exit = True

    def finish(self) -> int:
        """What became of the requests, now that there are no more: the exit code.

        Raises:
            TidesightError: the model could not be loaded.
        """
        if self._failure is not None:
            raise self._failure
        if self._hurried:
            self.leave()
        if self._instance.abandoned:
            self._log_abandoned("no worker is left" if self._broken else "the grace time is over")
        return 1 if self._instance.abandoned or self._broken else 0

    def leave(self, *_: object) -> None:
        """End the process on a signal that comes before requests do, or as the second one."""
        if self.started:
            self._log_abandoned("a second signal")
        leave_at_once(1 if self.started else 0)

    def _log_abandoned(self, why: str) -> None:
        left = self._instance.results.status().records
        log.error("%s: abandoned %d requests; %d objects wait for the store", why, self._instance.abandoned, left)


def _close_in_time(close_results: Callable[[float], None], limit_s: float) -> None:
    # In a thread: a client library may take longer than it was told to.
    closing = threading.Thread(target=close_results, args=(limit_s,), name="closing", daemon=True)
    closing.start()
    closing.join(limit_s + _CLOSING_S)


def leave_at_once(code: int) -> NoReturn:
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
