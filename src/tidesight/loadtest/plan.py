"""What to send, and how it goes: the same for every driver."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidesight.loadtest.target import Body, Target
from tidesight.workload.arrivals import Pattern
from tidesight.workload.outcome import Outcome
from tidesight.workload.scenario import Users

INTERRUPTED = "interrupted"
"""Why a load was stopped that Ctrl-C stopped."""


@dataclass(frozen=True)
class Load:
    """What to send, where, when.

    Attributes:
        target: Where.
        bodies: Of the requests, in turn.
        pattern: When; `Users` is a closed loop.
        duration_s: How long requests are sent; those under way then are waited for.
        timeout_s: A caller gives up this long after its request was due.
        objective_s: An answer later than this is not good.
        seed: Of the arrivals.
        connections: The most there may be at a time.
    """

    target: Target
    bodies: Sequence[Body]
    pattern: Pattern | Users
    duration_s: float
    timeout_s: float = 5.0
    objective_s: float = 0.5
    seed: int = 1
    connections: int = 1000


@dataclass(frozen=True)
class Progress:
    """A load on its way.

    Attributes:
        elapsed_s: Since it began.
        sent: Requests that have come due so far.
        in_flight: Of these, those under way.
        outcome: Of those that have ended.
    """

    elapsed_s: float
    sent: int
    in_flight: int
    outcome: Outcome


Observer = Callable[[Progress], str | None]
"""Called a few times a second; an answer stops the load and says why."""
