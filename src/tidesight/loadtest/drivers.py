"""The programs that can send a load: our own, or a tool of the field really run. All record the same way."""

from importlib import import_module
from pathlib import Path
from typing import Protocol

from tidesight.errors import ConfigError
from tidesight.loadtest.plan import Load, Observer
from tidesight.loadtest.recorder import LoadResult
from tidesight.runs.writer import RunWriter

# name: module with a class `Driver`. People look for "aiohttp": it names our own, and a run records which it was.
DRIVERS = {
    "tidesight": "tidesight.loadtest.own",
    "aiohttp": "tidesight.loadtest.own",
    "locust": "tidesight.loadtest.locust",
    "jmeter": "tidesight.loadtest.jmeter",
}


class Driver(Protocol):
    """Sends loads.

    Attributes:
        name: As recorded in a run.
    """

    name: str

    def __call__(self, load: Load, writer: RunWriter | None, observe: Observer) -> LoadResult:
        """Send a load, record each request, and say what came of it.

        Raises:
            TidesightError: the target cannot be connected to, or the tool does not work.
        """
        ...

    def write_plan(self, load: Load, folder: Path) -> str:
        """Write what the tool would run into a folder; the command that opens it.

        Raises:
            ConfigError: there is no plan to write, or no place for it.
        """
        ...


def driver(name: str) -> Driver:
    """The driver of that name.

    Raises:
        ConfigError: there is none.
        MissingExtra: its package is not installed.
    """
    if name not in DRIVERS:
        raise ConfigError(f"--driver: expected one of {', '.join(DRIVERS)}; got {name!r}", field="driver")
    made: Driver = import_module(DRIVERS[name]).Driver()
    return made
