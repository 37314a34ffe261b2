"""A real `tidesight serve` process on a free port of this machine, for as long as it is needed."""

import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from time import perf_counter, sleep
from types import TracebackType
from typing import IO
from urllib.error import HTTPError
from urllib.request import urlopen

from tidesight.errors import TidesightError

_START_LIMIT_S = 60
_STOP_LIMIT_S = 20
_POLL_S = 0.005


@dataclass
class LocalServer:
    """A running instance; leaving the `with` block stops it.

    Attributes:
        url: Where it answers.
        start_s: Seconds from the start of the process until it was ready.
        process: The process.
    """

    url: str
    start_s: float
    process: "subprocess.Popen[bytes]"

    def __enter__(self) -> "LocalServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_LIMIT_S)
        finally:
            _end(self.process)


def local_server(*arguments: str) -> LocalServer:
    """Start an instance and wait until it is ready.

    Args:
        *arguments: Of `tidesight serve`, besides host and port.

    Raises:
        TidesightError: it ended or did not become ready; its output is in the message.
    """
    command = [sys.executable, "-m", "tidesight", "serve", "--host", "127.0.0.1", "--port", "0", *arguments]
    # The instance writes through a handle of its own: one that is shared would be moved by reading. Its name goes
    # when the instance is ready, the file itself when it ends.
    with tempfile.NamedTemporaryFile("r", suffix=".log", encoding="utf-8", errors="replace") as log:
        started = perf_counter()
        with open(log.name, "ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - ourselves
        try:
            return LocalServer(_url_when_ready(process, log), perf_counter() - started, process)
        except BaseException:
            _end(process)
            raise


def _url_when_ready(process: "subprocess.Popen[bytes]", log: IO[str]) -> str:
    limit = perf_counter() + _START_LIMIT_S
    while perf_counter() < limit and process.poll() is None:
        found = re.search(r"listens on (http://\S+)\s", _text(log))  # with what follows: the URL is whole
        if found and _is_ready(found[1]):
            return found[1]
        sleep(_POLL_S)
    raise TidesightError(f"the instance did not become ready:\n{_text(log)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()  # does nothing to one that has ended
    process.wait()


def _text(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - our own process
            return True
    except HTTPError as error:
        error.close()
    except (OSError, HTTPException):  # refused, reset, timed out, or cut short
        pass
    return False
