"""What sends the load of every run of an experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidesight.loadtest.drivers import Driver
from tidesight.loadtest.plan import Load, Observer
from tidesight.loadtest.recorder import LoadResult
from tidesight.loadtest.target import Body, parse_url
from tidesight.runs.writer import RunWriter
from tidesight.workload.scenario import Scenario


@dataclass(frozen=True)
class Sender:
    """Requests, by a load driver.

    Attributes:
        driver: Its program.
        bodies: Of the requests, in turn.
        connections: The most there may be at a time.
        headers: "Name: value" each, beside those of the scenario.
    """

    driver: Driver
    bodies: Sequence[Body]
    connections: int = 1000
    headers: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Of what sends, as recorded in a run."""
        return self.driver.name

    def load(self, scenario: Scenario, url: str, seed: int) -> Load:
        """A scenario's load for a URL.

        Raises:
            ConfigError: it is no URL, or the load is no requests.
        """
        headers = [*(f"{name}: {value}" for name, value in scenario.ask.headers.items()), *self.headers]
        target = parse_url(url, scenario.ask.path, headers)
        return Load(
            target, self.bodies, scenario.requests(), scenario.duration_s, scenario.timeout_s, scenario.objective_s,
            seed, self.connections,
        )  # fmt: skip

    def send(self, scenario: Scenario, url: str, seed: int, writer: RunWriter, observe: Observer) -> LoadResult:
        """Send the scenario's load, record it, and say what came of it; Ctrl-C ends it early, with a result.

        Raises:
            TidesightError: the target cannot be connected to, or the driver does not work.
        """
        return self.driver(self.load(scenario, url, seed), writer, observe)
