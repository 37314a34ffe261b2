"""A fleet in a process of its own: `tidesight up`, so that a load generator does not share its event loop.

    with FleetProcess(("--platform", "gke"), run_folder) as fleet:
        fleet.until_ready(1)
        fleet.url

It is tied to this process: however this one ends, the kernel ends the fleet and all that it started.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

from tidesight.errors import TidesightError
from tidesight.fleet.lifeline import Lifeline
from tidesight.fleet.state import read_state

_START_LIMIT_S = 60.0
_READY_LIMIT_S = 600.0
_STOP_LIMIT_S = 60.0
_POLL_S = 0.05
_ASK_LIMIT_S = 5.0
_LAST_CHARACTERS = 600
_NAME = "bench"


class FleetProcess:
    """A running fleet that records into a run's folder; leaving the `with` block drains and ends it.

    Args:
        arguments: Of `tidesight up`.
        run: Folder of a run that has begun, which the fleet joins.

    Attributes:
        url: Where requests go.

    Raises:
        TidesightError: it does not start; with its last words.
    """

    def __init__(self, arguments: Sequence[str], run: Path) -> None:
        self._stack = ExitStack()
        try:
            self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="tidesight-fleet-")))
            self._log = self._folder / "up.log"
            self._process = self._start(arguments, run)
            self._stack.callback(self._end)
            self.url = self._listens()
        except OSError as error:
            self._stack.close()
            raise TidesightError(f"the fleet did not start: {error}") from None
        except BaseException:
            self._stack.close()
            raise

    def until_ready(self, count: int) -> None:
        """Wait until so many instances are ready.

        Raises:
            TidesightError: they do not become so.
        """
        limit_s = monotonic() + _READY_LIMIT_S
        while self._ready() < count:
            self._must_run(limit_s, f"{count} instances were not ready within {_READY_LIMIT_S:g} s")
            sleep(_POLL_S)

    def check(self) -> None:
        """Find out whether it is still there.

        Raises:
            TidesightError: it is not; with its last words.
        """
        if self._process.poll() is not None:
            code = self._process.returncode
            raise TidesightError(f"the fleet ended with {code} while it was needed: {self._last_words()}")

    def __enter__(self) -> Self:
        """The fleet itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Drain and end it."""
        self._stack.close()

    def _start(self, arguments: Sequence[str], run: Path) -> "subprocess.Popen[bytes]":
        lifeline = Lifeline()
        self._stack.callback(lifeline.close)
        tied = [sys.executable, "-m", "tidesight.fleet.lifeline", str(lifeline.fd), "env"]
        up = [sys.executable, "-m", "tidesight", "up", "--name", _NAME, "--record", str(run.absolute()), "--port", "0"]
        command = [*tied, f"TIDESIGHT_FLEETS={self._folder}", *up, *arguments]
        with self._log.open("wb") as log:
            # In a session of its own: Ctrl-C is for us, who then end it.
            return subprocess.Popen(  # noqa: S603 - ourselves
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lifeline.fd,),
                start_new_session=True,
            )  # fmt: skip

    def _listens(self) -> str:
        limit_s = monotonic() + _START_LIMIT_S
        while (state := read_state(self._folder / _NAME)) is None:
            self._must_run(limit_s, f"it did not listen within {_START_LIMIT_S:g} s")
            sleep(_POLL_S)
        return state.url

    def _ready(self) -> int:
        state = read_state(self._folder / _NAME)
        if state is None:
            return 0
        try:
            with urlopen(f"{state.page}/api/status", timeout=_ASK_LIMIT_S) as answer:  # noqa: S310 - our own http
                seen: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return 0
        return sum(one["state"] == "ready" for one in seen["instances"])

    def _must_run(self, limit_s: float, what: str) -> None:
        if self._process.poll() is not None or monotonic() > limit_s:
            why = what if self._process.returncode is None else f"it ended with {self._process.returncode}"
            raise TidesightError(f"the fleet did not start: {why}: {self._last_words()}")

    def _last_words(self) -> str:
        text = self._log.read_text(errors="replace")
        lines = [line.strip() for line in text[-_LAST_CHARACTERS:].splitlines() if line.strip()]
        return next((line for line in reversed(lines) if line.startswith("tidesight: ")), " / ".join(lines[-3:]))

    def _end(self) -> None:
        """Drained if it does so in time; whatever happens, it is gone after this."""
        try:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_LIMIT_S)
        finally:
            self._process.kill()
            self._process.wait()
