"""What a fleet looks like at one moment: what its page, its terminal view and `tidesight status` show."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance.

    Attributes:
        id: Unique in the fleet's life.
        slot: Its place.
        state: starting, ready, draining, stopped or crashed.
        reason: Why it is in that state.
        since_s: How long it has been.
        start_s: From the decision to readiness; None before.
        how: "forked" or "fresh".
        pid: Its process.
        url: Where it answers, when it does.
        in_flight: Requests inside, on average over the last sample; None where that is not known.
        queued: Of these, those that wait for a worker.
        cpu: CPUs in use.
        memory_bytes: In use, without page cache that can be dropped.
        answered_per_s: Answers with status 200.
    """

    id: str
    slot: int
    state: str
    reason: str
    since_s: float
    start_s: float | None = None
    how: str = ""
    pid: int | None = None
    url: str | None = None
    in_flight: float | None = None
    queued: float | None = None
    cpu: float | None = None
    memory_bytes: int | None = None
    answered_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class FrontView:
    """The load balancer and the activator.

    Attributes:
        path: "instances" (straight to them) or "activator" (by way of it).
        offered_per_s: Requests that came.
        answered_per_s: By class of status: {"2xx": ..., "4xx": ..., "5xx": ...}.
        answered: The same in all, since the fleet started.
        p50_ms: Latency of the last sample's answers, at the load balancer; None without any.
        p95_ms: Likewise.
        p99_ms: Likewise.
        active: Requests now.
        held: Of these, those that wait in the activator.
        held_oldest_s: How long the first of them has.
        retries: Tries beyond a request's first, in all.
        restarts: Of Envoy, that nobody asked for.
    """

    path: str
    offered_per_s: float = 0.0
    answered_per_s: dict[str, float] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    active: int = 0
    held: int = 0
    held_oldest_s: float = 0.0
    retries: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class DecisionView:
    """A decision that changed something, or would have.

    Attributes:
        at_s: Seconds since the fleet started.
        current: Wanted before.
        desired: Wanted from then on.
        reason: In the policy's words.
        valid: False when nothing could be decided.
        detail: Inputs, proposal and clamps, in one line.
    """

    at_s: float
    current: int
    desired: int
    reason: str
    valid: bool
    detail: str


@dataclass(frozen=True, slots=True)
class BackOffView:
    """A place that waits before it is filled again.

    Attributes:
        slot: Which.
        crashes: In a row.
        retry_in_s: Until the next try.
        why: The last crash.
    """

    slot: int
    crashes: int
    retry_in_s: float
    why: str


@dataclass(frozen=True, slots=True)
class CostView:
    """What the platform would charge, by its dated price list.

    Attributes:
        usd: Since the fleet started.
        usd_per_hour: At the rate of the last minute.
        usd_per_thousand: For 1000 good answers, since the fleet started; None before the first.
        prices_of: Date of the price list.
    """

    usd: float
    usd_per_hour: float
    usd_per_thousand: float | None
    prices_of: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A fleet at one moment.

    Attributes:
        at_s: Seconds since the fleet started.
        url: Where requests go.
        platform: Its name.
        policy: Its name.
        instance_class: Such as "1 CPU, 512 MiB".
        enforced: Why the class is, or is not, enforced; begins with "enforced" or "not enforced".
        wanted: Instances wanted.
        least: Bound.
        most: Bound; None is none.
        pinned: A count set by hand, which overrules the policy; None where none is.
        instances: That have not ended, and those that ended lately.
        front: Load balancer and activator.
        decisions: The latest, newest first.
        back_offs: Places that wait after crashes.
        cost: So far.
    """

    at_s: float
    url: str
    platform: str
    policy: str
    instance_class: str
    enforced: str
    wanted: int
    least: int
    most: int | None
    pinned: int | None
    instances: tuple[InstanceView, ...]
    front: FrontView
    decisions: tuple[DecisionView, ...] = ()
    back_offs: tuple[BackOffView, ...] = ()
    cost: CostView | None = None
