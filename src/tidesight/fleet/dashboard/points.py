"""What the charts show: a fleet's snapshots as columns of numbers."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from tidesight.fleet.dashboard.view import FleetView
from tidesight.fleet.snapshot import DecisionView, Snapshot


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of the charts; None is not known, which is not 0.

    Attributes:
        at_s: Seconds since the fleet started.
        wanted: Instances wanted.
        ready: Instances in this state; likewise the next two.
        starting: See `ready`.
        draining: See `ready`.
        offered_per_s: Requests that came.
        answered_2xx_per_s: Answers of this class of status; likewise the next two.
        answered_4xx_per_s: See `answered_2xx_per_s`.
        answered_5xx_per_s: See `answered_2xx_per_s`.
        p50_ms: Percentile of latency; likewise the next two.
        p95_ms: See `p50_ms`.
        p99_ms: See `p50_ms`.
        active: Requests in the fleet.
        held: Of these, those that wait in the activator.
        queued: Of these, those that wait for a worker in an instance.
        cpu: CPUs in use by all instances.
        memory_bytes: In use by all instances.
        usd_per_hour: At the moment's rate.
    """

    at_s: float
    wanted: int
    ready: int
    starting: int
    draining: int
    offered_per_s: float
    answered_2xx_per_s: float
    answered_4xx_per_s: float
    answered_5xx_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    active: int
    held: int
    queued: float | None
    cpu: float | None
    memory_bytes: float | None
    usd_per_hour: float | None


def point_of(snapshot: Snapshot) -> Point:
    """A snapshot as the charts show it."""
    states = [instance.state for instance in snapshot.instances]
    front = snapshot.front
    return Point(
        at_s=round(snapshot.at_s, 3),
        wanted=snapshot.wanted,
        ready=states.count("ready"),
        starting=states.count("starting"),
        draining=states.count("draining"),
        offered_per_s=front.offered_per_s,
        answered_2xx_per_s=front.answered_per_s.get("2xx", 0.0),
        answered_4xx_per_s=front.answered_per_s.get("4xx", 0.0),
        answered_5xx_per_s=front.answered_per_s.get("5xx", 0.0),
        p50_ms=front.p50_ms,
        p95_ms=front.p95_ms,
        p99_ms=front.p99_ms,
        active=front.active,
        held=front.held,
        queued=_sum(instance.queued for instance in snapshot.instances),
        cpu=_sum(instance.cpu for instance in snapshot.instances),
        memory_bytes=_sum(instance.memory_bytes for instance in snapshot.instances),
        usd_per_hour=None if snapshot.cost is None else snapshot.cost.usd_per_hour,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


class History:
    """A fleet's past for a page that is opened late; each point is worked out once."""

    def __init__(self, view: FleetView) -> None:
        self._view = view
        self._points: dict[float, Point] = {}

    def columns(self) -> dict[str, Any]:
        """`points`: a list for each attribute of `Point`, oldest first; `decisions`: all of that time, newest first."""
        snapshots = [*self._view.history(), self._view.snapshot()]
        # By its time: what the last call has worked out needs no working out.
        self._points = {one.at_s: self._points.get(one.at_s) or point_of(one) for one in snapshots}
        points = [asdict(point) for point in self._points.values()]
        columns = {field.name: [point[field.name] for point in points] for field in fields(Point)}
        return {"points": columns, "decisions": _decisions(snapshots)}


def _decisions(snapshots: Iterable[Snapshot]) -> list[DecisionView]:
    told = {decision for snapshot in snapshots for decision in snapshot.decisions}
    return sorted(told, key=lambda decision: decision.at_s, reverse=True)
