"""The figures of one run: every number of the reference table, None where it is not known."""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from tidesight.experiments.report.answers import Fate, Floats, percentile_s
from tidesight.experiments.report.evidence import Evidence, number, table
from tidesight.experiments.report.readiness import READY, STARTING, cold_starts, lives, ready_at, sample_step_s

STEADY_CV = 0.3
"""Below this coefficient of variation, a CPU profile is called stable."""
_SPIN_UP_S = 2.0


@dataclass(frozen=True)
class Figures:
    """Of one run. None is unknown, or has no meaning in it.

    Attributes:
        sent: Requests due.
        sent_rps: The same a second.
        good_rps: Answers within the objective a second.
        failure_share: Requests without a 2xx answer.
        late_share: Requests with a 2xx answer that came too late.
        p50_s: Of 2xx answers, from when they were due.
        p95_s: Likewise.
        p99_s: Likewise.
        cold_s: Latency of the first caller who found no instance ready.
        cold_share: Requests that were due while no instance was ready.
        warm_s: Median latency of requests that were due while one was.
        start_s: From an instance asked for to ready, median.
        starts: How many became ready.
        cpu: Use over promise of ready instances while requests were due, mean over instances and time.
        cpu_peak: The highest mean over instances at any time, those that start included.
        cpu_cv: Coefficient of variation of that mean over time.
        cpu_spin: Part of the highest tenth of those times that lie within two seconds of an instance's start.
        memory: Use over limit, like `cpu`.
        memory_bytes: Use, likewise.
        in_flight: Requests in a ready instance, mean.
        held: The most requests that waited in front of the fleet.
        ready_least: Of instances while requests were due.
        ready_most: Likewise.
        ups: Decisions that raised the count.
        downs: Decisions that lowered it.
        tick_s: From one decision to the next, median.
        first_up_s: From the first request due to the first decision that raised the count.
        instance_s: Seconds of all instances, from asked for to ended.
        usd: What the platform would have charged.
        usd_per_thousand: For 1000 good answers.
    """

    sent: float | None = None
    sent_rps: float | None = None
    good_rps: float | None = None
    failure_share: float | None = None
    late_share: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    cold_s: float | None = None
    cold_share: float | None = None
    warm_s: float | None = None
    start_s: float | None = None
    starts: float | None = None
    cpu: float | None = None
    cpu_peak: float | None = None
    cpu_cv: float | None = None
    cpu_spin: float | None = None
    memory: float | None = None
    memory_bytes: float | None = None
    in_flight: float | None = None
    held: float | None = None
    ready_least: float | None = None
    ready_most: float | None = None
    ups: float | None = None
    downs: float | None = None
    tick_s: float | None = None
    first_up_s: float | None = None
    instance_s: float | None = None
    usd: float | None = None
    usd_per_thousand: float | None = None


NAMES = tuple(one.name for one in fields(Figures))
_Found = dict[str, float | None]


def figures(run: Evidence) -> Figures:
    """All figures of a run."""
    return Figures(**_of_requests(run), **_of_starts(run), **_of_usage(run), **_of_scaling(run), **_of_cost(run))


def window_s(run: Evidence) -> tuple[float, float]:
    """While requests were due; the whole recording where there were none."""
    answers = run.answers
    if len(answers):
        return float(answers.due_s[0]), float(answers.due_s[-1])
    times = [row.t_s for row in (*run.front, *run.instances)]
    return (min(times), max(times)) if times else (0.0, 0.0)


def _of_requests(run: Evidence) -> _Found:
    answers = run.answers
    if not len(answers):
        return {}
    served = answers.latency_s[answers.served]
    seconds = run.load_s
    good = answers.share(Fate.GOOD) or 0.0
    failed = 1.0 - len(served) / len(answers)
    return {
        "sent": float(len(answers)),
        "sent_rps": len(answers) / seconds,
        "good_rps": good * len(answers) / seconds,
        "failure_share": failed,
        "late_share": answers.share(Fate.LATE),
        **{f"p{percent}_s": percentile_s(served, percent) for percent in (50, 95, 99)},
    }


def _of_starts(run: Evidence) -> _Found:
    took_s = [start.took_s for start in run.starts if start.took_s is not None]
    cold = cold_starts(run)
    found: _Found = {"start_s": float(np.median(took_s)) if took_s else None}
    known = lives(run)
    if known:
        found["starts"] = float(sum(life.ready_s is not None for life in known))
    if cold is not None:
        found |= {"cold_s": cold.first_s, "cold_share": cold.share, "warm_s": cold.warm_s}
    return found


def _of_usage(run: Evidence) -> _Found:
    start_s, end_s = window_s(run)
    rows = [row for row in run.instances if start_s <= row.t_s <= end_s]
    ready = [row for row in rows if row.state == READY]
    limit = number(table(run.platform, "instance").get("memory_bytes"))
    memory = _mean([row.memory_bytes for row in ready])
    fronts = [row.queued for row in run.front if row.queued is not None and start_s <= row.t_s <= end_s]
    return {
        "cpu": _mean([row.cpu_ratio for row in ready]),
        "memory_bytes": memory,
        "memory": memory / limit if memory is not None and limit else None,
        "in_flight": _mean([row.in_flight for row in ready]),
        "held": max(fronts) if fronts else None,
        **_profile(run, start_s, end_s),
    }


def _profile(run: Evidence, start_s: float, end_s: float) -> _Found:
    """How even the CPU was: instances that start count too, for a start is where a spike comes from."""
    by_time: dict[float, list[float]] = {}
    for row in run.instances:
        if row.cpu_ratio is not None and row.state in (READY, STARTING) and start_s <= row.t_s <= end_s:
            by_time.setdefault(row.t_s, []).append(row.cpu_ratio)
    if not by_time:
        return {}
    at_s = np.array(sorted(by_time))
    means = np.array([np.mean(by_time[time_s]) for time_s in at_s])
    mean = float(means.mean())
    highest = at_s[means >= np.quantile(means, 0.9)]
    spins = [(life.since_s, (life.ready_s or life.since_s) + _SPIN_UP_S) for life in lives(run)]
    within = [any(begin <= time_s <= end for begin, end in spins) for time_s in highest]
    return {
        "cpu_peak": float(means.max()),
        "cpu_cv": float(means.std() / mean) if mean else None,
        "cpu_spin": float(np.mean(within)),
    }


def _of_scaling(run: Evidence) -> _Found:
    found: _Found = {}
    start_s, end_s = window_s(run)
    known = lives(run)
    if known:
        at_s: Floats = np.arange(start_s, max(end_s, start_s + 0.1), 0.1)
        counts = ready_at(known, at_s)
        found |= {"ready_least": float(counts.min()), "ready_most": float(counts.max())}
    if run.decisions:
        rows = [row for row in run.decisions if row.valid]
        ups = [row.t_s for row in rows if row.desired > row.current and row.t_s >= start_s]
        steps = [later.t_s - earlier.t_s for earlier, later in pairwise(run.decisions)]
        found |= {
            "ups": float(sum(row.desired > row.current for row in rows)),
            "downs": float(sum(row.desired < row.current for row in rows)),
            "tick_s": float(np.median(steps)) if steps else None,
            "first_up_s": ups[0] - start_s if ups else None,
        }
    return found


def _of_cost(run: Evidence) -> _Found:
    usd, _ = run.cost
    good = int(np.count_nonzero(run.answers.fate == Fate.GOOD))
    known = number(table(run.summary, "cost").get("usd_per_thousand")) if not len(run.answers) else None
    return {
        "instance_s": _instance_s(run),
        "usd": usd,
        "usd_per_thousand": usd * 1000 / good if usd is not None and good else known,
    }


def _instance_s(run: Evidence) -> float | None:
    """From the list of starts where it is complete, else from samples."""
    ends = [(start.asked_s, start.ended_s) for start in run.starts]
    known = [end - begin for begin, end in ends if begin is not None and end is not None]
    if known and len(known) == len(ends):
        return sum(known)
    told = number(run.summary.get("instance_s"))
    if told is not None or not run.instances:
        return told
    live = sum(row.state in (READY, STARTING, "draining") for row in run.instances)
    return live * sample_step_s(run)


def _mean(values: "list[float | None] | list[int | None]") -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
