"""The generator of this package as a driver."""

from pathlib import Path

from tidesight.errors import ConfigError
from tidesight.loadtest.plan import Load, Observer
from tidesight.loadtest.recorder import LoadResult
from tidesight.loadtest.runner import run
from tidesight.runs.writer import RunWriter


class Driver:
    """Open and closed loops from this process."""

    name = "tidesight"

    def __call__(self, load: Load, writer: RunWriter | None, observe: Observer) -> LoadResult:
        """Send the load."""
        return run(load, writer, observe)

    def write_plan(self, load: Load, folder: Path) -> str:
        """There is none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("--write-plan goes with --driver locust or jmeter; a scenario file is our own plan", "driver")
