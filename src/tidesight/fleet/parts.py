"""What a fleet is made of: its plan, the rule by which it scales, and the parts that the controller acts on."""

from dataclasses import dataclass, field

from tidesight.autoscaling.policy import Autoscaler, Bounds
from tidesight.fleet.activator import Activator
from tidesight.fleet.front import FrontSettings
from tidesight.fleet.instances import LaunchPlan
from tidesight.fleet.launcher import Launcher
from tidesight.fleet.ledger import Ledger
from tidesight.fleet.routing import Routing
from tidesight.fleet.scrape import Scraper
from tidesight.platforms.platform import Platform


@dataclass(frozen=True)
class ScalingPlan:
    """By what rule, and within which bounds.

    Attributes:
        platform: Its start-up, drain and queueing hold whatever the rule is.
        autoscaler: The rule.
        bounds: Of a count that is set by hand too.
        delays: Whether instances also wait for what the platform does before their process starts.
        seed: Of these delays.
    """

    platform: Platform
    autoscaler: Autoscaler
    bounds: Bounds
    delays: bool = False
    seed: int = 1


@dataclass(frozen=True)
class FleetPlan:
    """All of a fleet.

    Attributes:
        scaling: By what rule.
        policy: The rule's name, for people.
        launch: How instances are started.
        front: How Envoy listens.
        wanted: Instances to begin with.
        pinned: A count set by hand before, or None.
        api_key: That instances accept from us; None where they want none.
    """

    scaling: ScalingPlan
    policy: str
    launch: LaunchPlan
    front: FrontSettings
    wanted: int
    pinned: int | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass
class Parts:
    """What a controller acts on; all have been opened.

    Attributes:
        launcher: Starts and stops instances.
        activator: Holds requests.
        routing: Sends requests to instances.
        scraper: Reads instances.
        ledger: Counts what they cost.
    """

    launcher: Launcher
    activator: Activator
    routing: Routing
    scraper: Scraper
    ledger: Ledger
