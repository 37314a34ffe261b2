"""What happened between two looks at a fleet, a line each: the plain log of `tidesight up`."""

from collections.abc import Iterator

from tidesight.fleet.figures import clock, counted, duration, latency
from tidesight.fleet.snapshot import DecisionView, InstanceView, Snapshot

_ENDED = ("stopped", "crashed")
_PATHS = {"instances": "requests go straight to the instances", "activator": "requests go by way of the activator"}


def changes(before: Snapshot | None, after: Snapshot) -> list[str]:
    """What is new in `after`, each line with the time since the fleet started; all of it where nothing was before."""
    told = [*_decided(before, after), *_pinned(before, after), *_instances(before, after), *_back_offs(before, after)]
    return [f"{clock(after.at_s)}  {line}" for line in (*told, *_front(before, after))]


def _decided(before: Snapshot | None, after: Snapshot) -> Iterator[str]:
    known = set(before.decisions if before else ())
    undecided = next((one.reason for one in (before.decisions if before else ()) if not one.valid), None)
    for decision in reversed(after.decisions):
        if decision in known:
            continue
        if decision.valid:
            yield _decision(decision)
        elif decision.reason != undecided:  # once, not every few seconds for as long as it lasts
            undecided = decision.reason
            yield f"cannot decide: {decision.reason}{_in_brackets(decision.detail)}"


def _decision(decision: DecisionView) -> str:
    change = f"{decision.current} -> {decision.desired}" if decision.current != decision.desired else "held"
    return f"scale {change}: {decision.reason}{_in_brackets(decision.detail)}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _pinned(before: Snapshot | None, after: Snapshot) -> Iterator[str]:
    pinned = before.pinned if before else None
    if after.pinned != pinned:
        if after.pinned is None:
            yield "handed back to the policy"
        else:
            yield f"pinned to {counted(after.pinned, 'instance')} by hand; the policy is overruled"


def _instances(before: Snapshot | None, after: Snapshot) -> Iterator[str]:
    known = {one.id: one for one in (before.instances if before else ())}
    for instance in after.instances:
        earlier = known.pop(instance.id, None)
        if earlier is None or earlier.state != instance.state:
            yield _instance(instance)
    for gone in known.values():
        if gone.state not in _ENDED:
            yield f"{gone.id} is gone"


def _instance(instance: InstanceView) -> str:
    start = ""
    if instance.state == "ready" and instance.start_s is not None:
        start = f" after {latency(1000 * instance.start_s)}" + (f", {instance.how}" if instance.how else "")
    return f"{instance.id} {instance.state}{start}{f': {instance.reason}' if instance.reason else ''}"


def _back_offs(before: Snapshot | None, after: Snapshot) -> Iterator[str]:
    known = {one.slot: one.crashes for one in (before.back_offs if before else ())}
    for one in after.back_offs:
        if known.get(one.slot) != one.crashes:
            crashes = "a crash" if one.crashes == 1 else f"{one.crashes} crashes in a row"
            yield f"place {one.slot} is filled again in {duration(one.retry_in_s)}, after {crashes}: {one.why}"


def _front(before: Snapshot | None, after: Snapshot) -> Iterator[str]:
    if before is None or before.front.path != after.front.path:
        yield _PATHS.get(after.front.path, after.front.path)
    if after.front.restarts > (before.front.restarts if before else 0):
        yield f"Envoy was restarted ({counted(after.front.restarts, 'time')} so far)"
