"""An instance as a scaling rule sees it: what was measured of it, and None for what was not."""

from tidesight.autoscaling import observation
from tidesight.fleet.instances import Instance, InstanceClass, State
from tidesight.fleet.scrape import Meter

_PHASES: dict[State, observation.Phase] = {State.STOPPED: "Succeeded", State.CRASHED: "Failed"}


def seen(one: Instance, meter: Meter | None, gets: InstanceClass, leaving: bool) -> observation.Instance:
    """One instance; figures are means since the observation before.

    Args:
        one: It.
        meter: Its readings, if there are any.
        gets: What it was promised.
        leaving: Whether it gets no more requests.
    """
    rates, latest = (None, None) if meter is None else (meter.since_observed(), meter.latest)
    usage = {}
    if rates is not None and rates.cpu is not None:
        usage["cpu"] = round(rates.cpu * 1000)
    if latest is not None and latest.memory_bytes is not None:
        usage["memory"] = latest.memory_bytes * 1000
    running: observation.Phase = "Pending" if one.spawned_s is None else "Running"
    return observation.Instance(
        name=one.id,
        phase=_PHASES.get(one.state, running),
        ready=one.state is State.READY,
        started_s=one.history[0].at_s,
        ready_changed_s=next((entry.at_s for entry in one.history if entry.state is State.READY), None),
        deleting=one.state is State.DRAINING or leaving,
        usage_milli=usage,
        request_milli={"cpu": round(gets.cpu * 1000), "memory": gets.memory_bytes * 1000},
        concurrency=None if rates is None else rates.concurrency,
        requests_per_s=None if rates is None else rates.answered_per_s,
        sampled_s=None if latest is None else latest.at_s,
        sample_window_s=0.0 if rates is None else rates.window_s,
    )
