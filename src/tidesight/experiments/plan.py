"""What an experiment runs, and in which order: arms (what is compared) by repeats, taking turns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidesight.errors import ConfigError
from tidesight.workload.scenario import Scenario
from tidesight.workload.variants import Variant

REPEATS = 3


@dataclass(frozen=True)
class Arm:
    """One of the things compared.

    Attributes:
        name: Unique in an experiment, and part of its folders' names: "cloud-run-cold".
        platform: Facts about it for `run.json`; none of a URL.
        variant: Of the scenario; None is the platform as it is, or a URL.
        arguments: Of `tidesight up`, for a fleet of its own.
        url: Where it answers already; None starts a fleet.
        ready: Instances that must be ready before the load begins.
    """

    name: str
    platform: Mapping[str, Any] = field(default_factory=dict)
    variant: Variant | None = None
    arguments: Sequence[str] = ()
    url: str | None = None
    ready: int = 0


@dataclass(frozen=True)
class Turn:
    """One run of one arm.

    Attributes:
        arm: Which.
        repeat: From 1.
        seed: Of the arrivals: the same for all arms of a repeat.
    """

    arm: Arm
    repeat: int
    seed: int

    @property
    def folder(self) -> str:
        """Name of its run's folder."""
        return f"{self.arm.name}-{self.repeat}"


@dataclass(frozen=True)
class Experiment:
    """A scenario, what it is run against, and how often.

    Attributes:
        name: Of the folder that holds its runs, and in each of them.
        scenario: Who asks what, when.
        arms: What is compared.
        repeats: Of each.
        facts: Further ones for every run: versions, machine.

    Raises:
        ConfigError: nothing to run, or two arms of one name.
    """

    name: str
    scenario: Scenario
    arms: tuple[Arm, ...]
    repeats: int = REPEATS
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigError(f"--repeats: expected at least 1, got {self.repeats}", field="repeats")
        if not self.arms:
            raise ConfigError(f"{self.scenario.name}: nothing to run it against; say --platform or --url", "platform")
        names = [one.name for one in self.arms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"{twice} is named twice; each needs a name of its own", field="platform")

    def turns(self) -> Iterator[Turn]:
        """Every run: all arms once, then all again in an order that has moved on by one, so that none is always first.

        What else the machine does meanwhile so falls on all of them.
        """
        for number in range(self.repeats):
            first = number % len(self.arms)
            for arm in (*self.arms[first:], *self.arms[:first]):
                yield Turn(arm, number + 1, self.seed(number))

    def seed(self, number: int) -> int:
        """Of the repeat with this number, from 0; beyond those of the scenario they are counted on."""
        seeds = self.scenario.seeds
        return seeds[number] if number < len(seeds) else max(seeds) + 1 + number - len(seeds)


def variants_of(scenario: Scenario, platform: str, same: Mapping[str, str]) -> tuple[Variant | None, ...]:
    """The variants that a scenario has for a platform; (None,) where it has none.

    Args:
        scenario: It.
        platform: Its name.
        same: Other names of platforms, by what they stand for.
    """
    wanted = same.get(platform, platform)
    found = [
        one
        for one in scenario.variants
        if not one.platforms or wanted in (same.get(name, name) for name in one.platforms)
    ]
    return tuple(found) or (None,)
