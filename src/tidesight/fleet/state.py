"""A fleet's folder: one fleet at a time, what it needs to know when it starts again, and how others find it."""

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from tidesight.errors import ConfigError, DataError

FILE, LOCK = "fleet.json", "lock"


@dataclass(frozen=True)
class FleetState:
    """What outlives a fleet's process.

    Attributes:
        pid: Of the process that wrote it.
        url: Where requests go.
        page: Where its page is.
        token: For those who may change it; the file is readable by its owner alone.
        platform: Its name.
        wanted: Instances wanted when it was written.
        pinned: A count set by hand; None where none is.
    """

    pid: int
    url: str
    page: str
    token: str
    platform: str
    wanted: int = 0
    pinned: int | None = None


class FleetFolder:
    """The folder of one fleet, held by one process.

    Attributes:
        path: It.
        before: What the fleet before this one left, or None.
    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self.before = read_state(path)
        self._lock = lock
        self._state: FleetState | None = None

    @classmethod
    def take(cls, path: Path) -> "FleetFolder":
        """Take it for this process.

        Raises:
            ConfigError: another fleet has it, or it cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / LOCK).open("a+")
        except OSError as error:
            raise ConfigError(f"cannot keep a fleet in {path}: {error.strerror}", field="name") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            told = f"a fleet called {path.name!r} runs already; stop it, or give this one another --name"
            raise ConfigError(told, field="name") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return cls(path, lock)

    def write(self, state: FleetState) -> None:
        """Say where the fleet is."""
        self._state = state
        draft = self.path / f"{FILE}.next"
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(state), file)
        os.replace(draft, self.path / FILE)

    def note(self, wanted: int, pinned: int | None) -> None:
        """Keep the count for the next start."""
        if self._state is not None and (self._state.wanted, self._state.pinned) != (wanted, pinned):
            self.write(replace(self._state, wanted=wanted, pinned=pinned))

    def leave(self) -> None:
        """The fleet has ended as it was asked to: the next begins anew."""
        (self.path / FILE).unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go of the folder; what a fleet before this one left is still there for the next."""
        self._lock.close()


def new_token() -> str:
    """For `FleetState.token`."""
    return secrets.token_urlsafe(24)


def read_state(path: Path) -> FleetState | None:
    """What a fleet wrote there last; None when there is nothing, or nothing that can be read."""
    try:
        return FleetState(**json.loads((path / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def running(path: Path) -> FleetState:
    """The fleet that runs there.

    Raises:
        DataError: none does.
    """
    if not _is_locked(path):
        raise DataError(f"no fleet called {path.name!r} runs here; start one with: tidesight up --name {path.name}")
    state = read_state(path)
    if state is None or str(state.pid) != (path / LOCK).read_text():  # that of the one before
        raise DataError(f"the fleet called {path.name!r} is starting; try again in a moment")
    return state


def _is_locked(path: Path) -> bool:
    try:
        with (path / LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
