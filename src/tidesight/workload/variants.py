"""What a scenario says of the fleets it is run against: what an instance gets, and what is compared."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidesight.errors import ConfigError

Setting = bool | int | float | str
"""A number of a platform, a name or a switch."""


@dataclass(frozen=True)
class InstanceSize:
    """What each instance gets on this machine, as Kubernetes writes it: cpu "0.25" or "250m", memory "512Mi"."""

    cpu: str
    memory: str


@dataclass(frozen=True)
class Variant:
    """One of the fleets that a scenario compares.

    Attributes:
        name: Short, of letters, digits and dashes.
        shows: What of it is to be seen.
        platforms: Those it is for, by name; empty is any.
        set: Numbers of the platform by key, over those of the scenario.
        delays: As of the scenario, over it; None is what it says.
        fork: Likewise.

    Raises:
        ConfigError: a name that could not be part of a folder's.
    """

    name: str
    shows: str = ""
    platforms: tuple[str, ...] = ()
    set: Mapping[str, Setting] = field(default_factory=dict)
    delays: bool | None = None
    fork: bool | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}", self.name):
            raise ConfigError(f"variants: expected a name of letters, digits and dashes, got {self.name!r}", "variants")
