"""Charts of what a fleet did: instances and decisions, CPU and memory of each, what a start was made of."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tidesight.experiments.report.comparing import Section, Subject
from tidesight.experiments.report.drawing import Chart, Floats, Trace, band, escaped, line, on_row, over, rows, tidy
from tidesight.experiments.report.evidence import Evidence, Start
from tidesight.experiments.report.figures import window_s
from tidesight.experiments.report.readiness import Life, lives, ready_at
from tidesight.experiments.report.request_charts import SINCE
from tidesight.experiments.report.words import seconds
from tidesight.runs.rows import SampleRow

_POINTS = 400
_MOST_INSTANCES = 12
_MOST_STARTS = 12
_MOST_MARKS = 200
_Watched = list[tuple[int, Subject]]
_Read = Callable[[SampleRow], float | None]
_PHASES = (
    ("waiting for a machine", "asked_s", "placed_s", "@client"),
    ("placing and image", "placed_s", "spawned_s", "@refused"),
    ("process and model", "spawned_s", "ready_s", "@6"), ("asked to ready", "asked_s", "ready_s", "@quiet"),
)  # fmt: skip


def fleet_charts(section: Section) -> list[Chart]:
    """All that samples, decisions and starts say; nothing where no fleet was watched."""
    watched = [(place, one) for place, one in enumerate(section.subjects) if any(lives(run) for run in one.runs)]
    if not watched:
        return []
    charts = [_instances(watched)]
    charts += [_usage(watched, *usage) for usage in _USAGES]
    breakdown = _starts(watched)
    return [*charts, breakdown] if breakdown else charts


def _grid(run: Evidence) -> tuple[float, Floats]:
    """The zero of the run's charts, and times from its first sign of life to its last, counted from there."""
    zero_s = window_s(run)[0]
    times = [row.t_s for row in (*run.instances, *run.front)] or [life.since_s for life in lives(run)]
    return zero_s, np.linspace(min(times) - zero_s, max(times) - zero_s, _POINTS)


def _instances(watched: _Watched) -> Chart:
    traces: list[Trace] = []
    for row, (place, subject) in enumerate(watched):
        run, where = subject.typical, on_row(row)
        zero_s, at_s = _grid(run)
        known = lives(run)
        ready = ready_at(known, at_s + zero_s)
        if len(subject.runs) > 1:
            counts = [ready_at(lives(one), at_s + _grid(one)[0]) for one in subject.runs if lives(one)]
            _, low, high = over(counts)
            traces.append(band(at_s, low, high, "repeats", f"@{place}", **where))
        x = tidy(at_s, 6)
        step = {"shape": "hv"}
        hover = "%{y} at %{x} s<extra>%{fullData.name}</extra>"
        traces.append(line(x, tidy(ready + _starting_at(known, at_s + zero_s)), "ready and starting", "@quiet",
                           line=step | {"dash": "dot", "width": 1.5}, hovertemplate=hover, legendgroup="starting",
                           showlegend=row == 0, **where))  # fmt: skip
        traces.append(
            line(x, tidy(ready), "ready", f"@{place}", line=step, hovertemplate=hover, showlegend=False, **where)
        )
        traces += _marks(run, zero_s, row == 0, where)
    axes = [{"dtick": _tick(subject)} for _, subject in watched]
    titles = [f"{subject.label}, instances" for _, subject in watched]
    several = any(len(subject.runs) > 1 for _, subject in watched)
    which = " of the repeat with the middle share of good answers; the band is all repeats" if several else ""
    caption = (
        f"Instances ready (full) and with those that start (dotted){which}. Triangles are decisions that changed the "
        f"count, at the count they asked for; hover for the reason. {_decision_words(watched)}"
    )
    return Chart("instances", "Instances and decisions", caption, traces, rows(titles, SINCE, axes, 130))


def _tick(subject: Subject) -> int:
    most = subject.median("ready_most") or 1
    return max(1, int(most // 5))


def _starting_at(known: list[Life], at_s: Floats) -> Floats:
    begins = np.sort([life.since_s for life in known])
    ends = np.sort([life.ready_s if life.ready_s is not None else np.inf for life in known])
    return (np.searchsorted(begins, at_s, "right") - np.searchsorted(ends, at_s, "right")).astype(np.float64)


def _marks(run: Evidence, zero_s: float, legend: bool, where: dict[str, str]) -> list[Trace]:
    traces = []
    for name, symbol, colour, way in (
        ("raised", "triangle-up", "@notice", 1),
        ("lowered", "triangle-down", "@good", -1),
    ):
        taken = [one for one in run.decisions if one.valid and (one.desired - one.current) * way > 0][:_MOST_MARKS]
        traces.append(
            {"type": "scatter", "mode": "markers", "name": name,
             "x": tidy([one.t_s - zero_s for one in taken], 6) or [None],
             "y": tidy([one.desired for one in taken]) or [None],
             "text": [f"{one.current} → {one.desired}: {escaped(one.reason)}" for one in taken],
             "marker": {"symbol": symbol, "size": 11, "color": colour, "line": {"width": 1, "color": "@panel"}},
             "hovertemplate": "%{text} at %{x} s<extra></extra>", "legendgroup": name, "showlegend": legend, **where}
        )  # fmt: skip
    return traces


def _decision_words(watched: _Watched) -> str:
    told = []
    for _, subject in watched:
        run = subject.typical
        changes = [one for one in run.decisions if one.valid and one.desired != one.current]
        if not run.decisions:
            told.append(f"{subject.label}: no decisions recorded")
        elif not changes:
            told.append(f"{subject.label}: {len(run.decisions)} decisions, none changed the count")
        else:
            reasons = sorted({one.reason for one in changes})
            told.append(
                f"{subject.label}: {len(changes)} of {len(run.decisions)} decisions changed it ({', '.join(reasons)})"
            )
    return "; ".join(told) + "."


def _usage(
    watched: _Watched, key: str, title: str, unit: str, read: Callable[[SampleRow], float | None], mean: str
) -> Chart:
    traces: list[Trace] = []
    left_out = 0
    for row, (place, subject) in enumerate(watched):
        run = subject.typical
        zero_s, _ = _grid(run)
        by_id: dict[str, list[tuple[float, float]]] = {}
        for sample in run.instances:
            value = read(sample)
            if value is not None:
                by_id.setdefault(sample.instance, []).append((sample.t_s - zero_s, value))
        longest = sorted(by_id, key=lambda id_: -len(by_id[id_]))[:_MOST_INSTANCES]
        left_out += len(by_id) - len(longest)
        for nth, id_ in enumerate(one for one in by_id if one in longest):
            points = np.array(by_id[id_])
            points = points[:: -(-len(points) // _POINTS)]
            hover = f"%{{y:.3~g}}{unit} at %{{x}} s<extra>{escaped(subject.label)}, {escaped(id_)}</extra>"
            style = {"width": 1.6, "dash": ("solid", "dash", "dot", "dashdot")[nth % 4]}
            traces.append(line(tidy(points[:, 0], 6), tidy(points[:, 1]), escaped(id_), f"@{place}", line=style,
                               hovertemplate=hover, showlegend=False, **on_row(row)))  # fmt: skip
    told = [f"{subject.label}: {_mean_words(subject, mean)}" for _, subject in watched]
    rest = f" {left_out} short-lived instances are left out." if left_out else ""
    caption = f"A line for each instance of one repeat.{rest} Mean of ready instances, {'; '.join(told)}."
    axes: list[dict[str, Any]] = [
        {"ticksuffix": unit, **({"matches": "y"} if row else {})} for row in range(len(watched))
    ]
    return Chart(key, title, caption, traces, rows([one.label for _, one in watched], SINCE, axes, 110))


def _mean_words(subject: Subject, name: str) -> str:
    found = subject.median(name)
    if found is None:
        return "unknown"
    return f"{100 * found:.0f} %" if name == "cpu" else f"{found / 2**20:.0f} MiB"


def _percent(row: SampleRow) -> float | None:
    return None if row.cpu_ratio is None else 100 * row.cpu_ratio


def _mib(row: SampleRow) -> float | None:
    return None if row.memory_bytes is None else row.memory_bytes / 2**20


_USAGES: tuple[tuple[str, str, str, Callable[[SampleRow], float | None], str], ...] = (
    ("cpu", "CPU of each instance", " %", _percent, "cpu"),
    ("memory", "Memory of each instance", " MiB", _mib, "memory_bytes"),
)


def _starts(watched: _Watched) -> Chart | None:
    bars = [(subject, start) for _, subject in watched for start in _shown(subject)]
    if not bars:
        return None
    names = [f"{escaped(subject.label)}, {escaped(start.id)}" for subject, start in bars]
    traces: list[Trace] = []
    for title, begin, end, colour in _PHASES:
        whole = title == "asked to ready"
        times = [_phase_s(start, begin, end) if _in_parts(start) is not whole else None for _, start in bars]
        if not any(times):
            continue
        traces.append(
            {"type": "bar", "orientation": "h", "y": names,
             "x": tidy([np.nan if one is None else one for one in times]),
             "name": title if not whole else "parts not recorded", "marker": {"color": colour},
             "hovertemplate": "%{x:.3~g} s<extra>%{fullData.name}</extra>"}
        )  # fmt: skip
    layout = {
        "height": 110 + 26 * len(bars), "barmode": "stack",
        "xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "automargin": True, "ticks": ""}, "bargap": 0.3,
    }  # fmt: skip
    told = []
    for _, subject in watched:
        found = [start.took_s for run in subject.runs for start in run.starts if start.took_s is not None]
        if found:
            told.append(
                f"{subject.label}: median {seconds(float(np.median(found)))} of {len(found)} starts in all repeats"
            )
    caption = f"From the decision to have an instance until it takes requests, in one repeat. {'; '.join(told)}."
    return Chart("starts", "What a start is made of", caption, traces, layout)


def _shown(subject: Subject) -> list[Start]:
    return [start for start in subject.typical.starts if start.took_s is not None][:_MOST_STARTS]


def _in_parts(start: Start) -> bool:
    return start.placed_s is not None and start.spawned_s is not None


def _phase_s(start: Start, begin: str, end: str) -> float | None:
    from_s, to_s = getattr(start, begin), getattr(start, end)
    return None if from_s is None or to_s is None else max(0.0, to_s - from_s)
