"""When how many instances were ready, and what that meant to callers."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tidesight.experiments.report.answers import Answers, Floats
from tidesight.experiments.report.evidence import Evidence

READY, STARTING = "ready", "starting"
_USUAL_STEP_S = 1.0


@dataclass(frozen=True)
class Life:
    """One instance: when it was asked for, ready and gone; `ready_s` and `gone_s` are None when it never was ready."""

    id: str
    since_s: float
    ready_s: float | None
    gone_s: float | None


@dataclass(frozen=True)
class Cold:
    """What starts cost callers.

    Attributes:
        first_s: Latency of the first caller who found no instance ready; the median where that happened several times.
            None when it never happened, or none of these callers was answered.
        episodes: How often it happened.
        share: The part of all requests that were due while none was ready.
        warm_s: Median latency of 2xx answers to the others.
    """

    first_s: float | None
    episodes: int
    share: float
    warm_s: float | None


def lives(run: Evidence) -> list[Life]:
    """Of every instance: from the list of starts, which is exact, else from samples, which are a second apart."""
    step_s = sample_step_s(run)
    listed = {start.id: start for start in run.starts}
    by_id: dict[str, list[tuple[float, str]]] = {id_: [] for id_ in listed}
    for row in run.instances:
        by_id.setdefault(row.instance, []).append((row.t_s, row.state))
    found = []
    for id_, seen in by_id.items():
        start = listed.get(id_)
        ready = [at_s for at_s, state in seen if state == READY]
        ready_s = start.ready_s if start and start.ready_s is not None else (ready[0] if ready else None)
        gone_s = ready[-1] + step_s if ready else (start.ended_s if start else None)
        first_s = start.asked_s if start and start.asked_s is not None else (seen[0][0] if seen else ready_s)
        if first_s is not None:
            found.append(Life(id_, first_s, ready_s, None if ready_s is None else gone_s))
    return sorted(found, key=lambda life: life.since_s)


def sample_step_s(run: Evidence) -> float:
    """The usual time from one sample to the next."""
    times = sorted({row.t_s for row in (*run.front, *run.instances)})
    steps = [later - earlier for earlier, later in pairwise(times)]
    return float(np.median(steps)) if steps else _USUAL_STEP_S


def ready_at(found: list[Life], at_s: Floats) -> Floats:
    """How many instances were ready at these times."""
    begins = np.sort([life.ready_s for life in found if life.ready_s is not None])
    ends = np.sort([np.inf if life.gone_s is None else life.gone_s for life in found if life.ready_s is not None])
    return (np.searchsorted(begins, at_s, "right") - np.searchsorted(ends, at_s, "right")).astype(np.float64)


def cold_starts(run: Evidence) -> Cold | None:
    """What starts cost callers; None where instances or requests are unknown."""
    answers, found = run.answers, lives(run)
    if not len(answers) or not found:
        return None
    cold = ready_at(found, answers.due_s) < 1
    episodes = _episodes(cold)
    firsts = [first for first in (_first_served_s(answers, start, end) for start, end in episodes) if first is not None]
    warm = answers.latency_s[~cold & answers.served]
    return Cold(
        float(np.median(firsts)) if firsts else None,
        len(episodes),
        float(cold.mean()),
        float(np.median(warm)) if len(warm) else None,
    )


def _episodes(cold: "np.typing.NDArray[np.bool_]") -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], cold, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _first_served_s(answers: Answers, start: int, end: int) -> float | None:
    served = np.flatnonzero(answers.served[start:end])
    return float(answers.latency_s[start + served[0]]) if len(served) else None
