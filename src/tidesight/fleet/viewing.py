"""A fleet's snapshot: what its parts say, put together for people."""

import time
from typing import TYPE_CHECKING

from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Decision
from tidesight.fleet.instances import Instance, InstanceClass, State
from tidesight.fleet.snapshot import BackOffView, DecisionView, InstanceView, Snapshot

if TYPE_CHECKING:
    from tidesight.fleet.fleet import Fleet


def viewed(fleet: "Fleet", at_s: float) -> Snapshot:
    """The fleet now.

    Args:
        fleet: It.
        at_s: Seconds since it started.
    """
    controller, launcher, now_s = fleet.controller, fleet.launcher, time.monotonic()
    bounds, scaling = fleet.plan.scaling.bounds, fleet.plan.scaling
    traffic = fleet.traffic
    waiting = controller.back_off.waiting(now_s)
    return Snapshot(
        at_s=at_s,
        url=fleet.url,
        platform=scaling.platform.name,
        policy=fleet.plan.policy,
        instance_class=class_in_words(launcher.plan.instance_class),
        enforced=launcher.enforcement,
        wanted=controller.wanted,
        least=bounds.least,
        most=bounds.most,
        pinned=controller.pinned,
        instances=tuple(_instance(fleet, one, now_s) for one in (*fleet.ended, *launcher.instances)),
        front=traffic.view("activator" if controller.parts.routing.activator_since_s is not None else "instances"),
        decisions=tuple(_decision(*one) for one in fleet.decisions),
        back_offs=tuple(
            BackOffView(slot, crashes.count, crashes.retry_s - now_s, crashes.why)
            for slot, crashes in sorted(waiting.items())
        ),
        cost=controller.parts.ledger.cost(now_s, sum(traffic.answered.values()), traffic.good),
    )


def class_in_words(gets: InstanceClass) -> str:
    """Such as "0.25 CPU, 512 MiB"."""
    return f"{gets.cpu:g} CPU, {gets.memory_bytes / 2**20:g} MiB"


def _instance(fleet: "Fleet", one: Instance, now_s: float) -> InstanceView:
    meter = fleet.controller.parts.scraper.meters.get(one)
    latest, second = (None, None) if meter is None else (meter.latest, meter.last_second())
    figures = latest.figures if latest is not None else None
    leaving = fleet.controller.is_leaving(one) and one.state in (State.STARTING, State.READY)
    return InstanceView(
        id=one.id,
        slot=one.slot,
        state=State.DRAINING.value if leaving else one.state.value,
        reason="gets no more requests" if leaving else one.reason,
        since_s=now_s - one.history[-1].at_s,
        start_s=one.start_s,
        how=one.how,
        pid=one.pid,
        url=one.url,
        in_flight=second.concurrency if second is not None else figures.in_flight if figures else None,
        queued=figures.queued if figures else None,
        cpu=second.cpu if second is not None else None,
        memory_bytes=latest.memory_bytes if latest is not None else None,
        answered_per_s=second.answered_per_s if second is not None else None,
    )


def _decision(at_s: float, seen: Observation, decision: Decision) -> DecisionView:
    return DecisionView(
        at_s, seen.replicas, decision.replicas, decision.reason.value, decision.valid, in_words(decision)
    )


def in_words(decision: Decision) -> str:
    """Inputs, proposal and clamps in one line."""
    told = [f"{name} {_figure(value)}" for name, value in decision.inputs.items() if value is not None]
    if decision.proposal is not None:
        told.append(f"proposed {decision.proposal}")
    told += [f"{step.reason} {step.before} -> {step.after}" for step in decision.clamps]
    return ", ".join(told)


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
