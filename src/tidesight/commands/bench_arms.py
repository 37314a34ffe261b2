"""From what `tidesight bench` is told to what is compared: fleets of platforms and variants, and URLs."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidesight.commands.fleet_plan import Wishes, fleet_plan, platform_facts
from tidesight.errors import ConfigError
from tidesight.experiments.plan import Arm, variants_of
from tidesight.platforms.registry import ALIASES
from tidesight.workload.scenario import Scenario
from tidesight.workload.variants import Variant


@dataclass(frozen=True)
class Asked:
    """What a scenario is to be run against.

    Attributes:
        platforms: Their names; None takes the scenario's own.
        urls: NAME=URL texts.
        sets: PLATFORM.KEY=VALUE texts, over the scenario's numbers.
        cpu: Of each instance, over the scenario's.
        memory: Likewise.
    """

    platforms: Sequence[str] | None = None
    urls: Sequence[str] = ()
    sets: Sequence[str] = ()
    cpu: str | None = None
    memory: str | None = None
    _sets_of: dict[str, list[str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for text in self.sets:
            platform, dot, assignment = text.partition(".")
            if not dot or "=" in platform:
                raise ConfigError(f"--set {text}: expected PLATFORM.KEY=VALUE, as in gke.max_instances=4", field="set")
            self._sets_of.setdefault(_standing_for(platform), []).append(assignment)

    def sets_of(self, platform: str) -> list[str]:
        """KEY=VALUE texts for a platform."""
        return self._sets_of.get(_standing_for(platform), [])


def arms(scenario: Scenario, asked: Asked) -> tuple[Arm, ...]:
    """All that is to be compared, in the order in which it was named.

    Raises:
        ConfigError: a platform, number or URL that cannot be.
    """
    platforms = asked.platforms
    if platforms is None:
        platforms = () if asked.urls else scenario.platforms
    wanted = [_standing_for(one) for one in platforms]
    for name in asked._sets_of:
        if name not in wanted:
            raise ConfigError(f"--set {name}.…: {name} is not among the platforms of this run", field="set")
    fleets = [
        _fleet(scenario, asked, platform, variant)
        for platform in platforms
        for variant in variants_of(scenario, platform, ALIASES)
    ]
    return (*fleets, *map(_of_url, asked.urls))


def _fleet(scenario: Scenario, asked: Asked, platform: str, variant: Variant | None) -> Arm:
    size = scenario.instance
    numbers = _numbers(scenario, asked, platform, variant)
    wishes = Wishes(
        platform,
        numbers,
        cpu=asked.cpu or (None if size is None else size.cpu),
        memory=asked.memory or (None if size is None else size.memory),
        delays=scenario.delays if variant is None or variant.delays is None else variant.delays,
        fork=scenario.fork if variant is None or variant.fork is None else variant.fork,
    )
    plan = fleet_plan(wishes, Path(tempfile.gettempdir()))  # nothing is written: this is to find out whether it can be
    name = platform if variant is None else f"{platform}-{variant.name}"
    return Arm(name, platform_facts(plan), variant, _up(wishes), ready=plan.scaling.bounds.least)


def _numbers(scenario: Scenario, asked: Asked, platform: str, variant: Variant | None) -> list[str]:
    """KEY=VALUE texts; what the user says is over the variant, and that over the scenario."""
    found: dict[str, str] = {}
    for name, table in scenario.platform.items():
        if _standing_for(name) == _standing_for(platform):
            found |= _texts(table)
    found |= _texts(variant.set) if variant is not None else {}
    for text in asked.sets_of(platform):
        key, _, value = text.partition("=")
        found[key.strip()] = value
    return [f"{key}={value}" for key, value in found.items()]


def _texts(table: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in table.items()}


def _up(wishes: Wishes) -> list[str]:
    """The same wishes as arguments of `tidesight up`."""
    words = ["--platform", wishes.platform, *(word for one in wishes.sets for word in ("--set", one))]
    for flag, value in (("--cpu", wishes.cpu), ("--memory", wishes.memory)):
        words += [flag, value] if value is not None else []
    return [*words, "--delays" if wishes.delays else "--no-delays", "--fork" if wishes.fork else "--no-fork"]


def _of_url(text: str) -> Arm:
    name, equals, url = text.partition("=")
    if not equals or not name or "/" in name or not url:
        raise ConfigError(f"--url {text}: expected NAME=URL, as in flask=http://127.0.0.1:8000", field="url")
    return Arm(name, url=url)


def _standing_for(platform: str) -> str:
    return ALIASES.get(platform, platform)
