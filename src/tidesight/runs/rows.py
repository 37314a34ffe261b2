"""The rows of a run's tables. Times are seconds since the run's start; None is an empty cell, never 0."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

FRONT = "front"
"""`SampleRow.instance` of the row for what no instance holds: the load balancer, the activator."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request.

    Attributes:
        intended_s: When it was due by the plan; latency counts from here.
        start_s: When its first byte was handed to a connection; None when that never happened.
        end_s: When its answer was complete, or it was given up; None when it was still under way at the end.
        status: HTTP status; None without an answer.
        bytes_out: Bytes of the body sent.
        bytes_in: Bytes of the body that came back.
        instance: Which instance answered, where the answer says so.
        error: Why there is no answer: one of `workload.outcome.ERRORS`; None when there is one.
    """

    intended_s: float
    start_s: float | None
    end_s: float | None
    status: int | None
    bytes_out: int = 0
    bytes_in: int = 0
    instance: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One instance at one time; a run has one row a second for each instance, and one for the `FRONT`.

    Attributes:
        t_s: When.
        instance: Its name, or `FRONT`.
        state: Its phase in the fleet's words, such as "starting", "ready", "draining"; for the front what it does.
        in_flight: Requests inside it.
        queued: Requests that wait in it.
        cpu_ratio: CPU in use over what it was promised, a mean since the row before; may exceed 1.
        memory_bytes: Resident memory.
        answered: Requests answered since it started.
    """

    t_s: float
    instance: str
    state: str
    in_flight: float | None = None
    queued: float | None = None
    cpu_ratio: float | None = None
    memory_bytes: int | None = None
    answered: int | None = None


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One camera over a stretch of time; a run has one row every few seconds for each camera that is there.

    Attributes:
        t_s: The end of the stretch; it begins at the camera's row before, or when it came.
        stream: Name of the camera.
        target_fps: Frames a second that are wanted of it.
        fps: Frames shown a second.
        age_p99_s: From capture to show, of those shown; None when none was.
        skipped: Turns that passed for want of capacity.
    """

    t_s: float
    stream: str
    target_fps: float
    fps: float
    age_p99_s: float | None
    skipped: int


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision of a scaling policy.

    Attributes:
        t_s: When.
        policy: Its name.
        ready: Instances that took requests.
        current: Instances wanted before it.
        desired: Instances wanted after it.
        reason: The policy's word for why.
        valid: False when nothing could be decided and the count was left alone.
        detail: What it was decided on: plain values, written as JSON.
    """

    t_s: float
    policy: str
    ready: int | None
    current: int
    desired: int
    reason: str
    valid: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict)


def header(kind: type) -> list[str]:
    """The column names of a kind of row, in order."""
    return [one.name for one in fields(kind)]
