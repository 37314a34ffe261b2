"""Charts of cameras: frames a second of each, and how old they were when they were shown."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tidesight.experiments.report.comparing import Section, Subject
from tidesight.experiments.report.drawing import Chart, Trace, escaped, line, on_row, rows, tidy
from tidesight.experiments.report.evidence import Evidence
from tidesight.experiments.report.figures import window_s
from tidesight.experiments.report.request_charts import SINCE
from tidesight.experiments.report.words import figure, seconds
from tidesight.runs.rows import StreamRow

_Watched = list[tuple[int, Subject]]
_THIN = {"width": 1.2}


def stream_charts(section: Section) -> list[Chart]:
    """All that rows of cameras say; nothing where the load was no cameras."""
    watched = [(place, one) for place, one in enumerate(section.subjects) if one.typical.streams]
    if not watched:
        return []
    return [_rates(watched), _ages(watched)]


def _rates(watched: _Watched) -> Chart:
    told = [f"{subject.label}: {_rate_words(subject.typical.streams)}" for _, subject in watched]
    caption = (
        "Frames shown a second, a line for each camera of one repeat; dotted is what each of them wants. "
        f"{'. '.join(told)}."
    )
    traces = [
        trace
        for row, (place, subject) in enumerate(watched)
        for trace in (*_lines(subject, place, row, lambda one: one.fps, "FPS"), _wanted(subject.typical, row))
    ]
    axes: list[dict[str, Any]] = [{"matches": "y"} if row else {} for row in range(len(watched))]
    titles = [f"{subject.label}, FPS of each camera" for _, subject in watched]
    return Chart("streams", "Frame rate of each camera", caption, traces, rows(titles, SINCE, axes, 120))


def _ages(watched: _Watched) -> Chart:
    told = [f"{subject.label}: {_age_words(subject.typical.streams)}" for _, subject in watched]
    traces: list[Trace] = []
    for row, (place, subject) in enumerate(watched):
        traces += _lines(subject, place, row, _age_ms, "ms")
    limits = sorted({run.objective_s for _, subject in watched for run in subject.runs if run.objective_s})
    fresh = f" A frame older than {' or '.join(map(seconds, limits))} is not shown." if limits else ""
    caption = (
        "From capture to show, in ms: the 99th percentile of a few seconds, a line for each camera of one repeat."
        f"{fresh} {'. '.join(told)}."
    )
    axes: list[dict[str, Any]] = [{"matches": "y"} if row else {} for row in range(len(watched))]
    titles = [f"{subject.label}, age of shown frames, ms" for _, subject in watched]
    return Chart("ages", "Age of shown frames", caption, traces, rows(titles, SINCE, axes, 120))


def _age_ms(row: StreamRow) -> float:
    return np.nan if row.age_p99_s is None else 1e3 * row.age_p99_s


def _lines(subject: Subject, place: int, row: int, read: Callable[[StreamRow], float], unit: str) -> list[Trace]:
    run = subject.typical
    zero_s = window_s(run)[0]
    traces = []
    for name in dict.fromkeys(one.stream for one in run.streams):
        points = [one for one in run.streams if one.stream == name]
        hover = f"%{{y:.3~g}} {unit} at %{{x}} s<extra>{escaped(subject.label)}, {escaped(name)}</extra>"
        at_s, values = tidy([one.t_s - zero_s for one in points], 6), tidy([read(one) for one in points])
        colour = f"@{place}/60"
        traces.append(
            line(at_s, values, escaped(name), colour, line=_THIN, hovertemplate=hover, showlegend=False, **on_row(row))
        )
    return traces


def _wanted(run: Evidence, row: int) -> Trace:
    zero_s = window_s(run)[0]
    ends = [run.streams[0], run.streams[-1]]
    style = {"dash": "dot", "width": 1.5}
    return line(
        tidy([one.t_s - zero_s for one in ends], 6), tidy([max(one.target_fps for one in run.streams)] * 2), "wanted",
        "@quiet", line=style, hoverinfo="skip", showlegend=row == 0, **on_row(row),
    )  # fmt: skip


def _rate_words(streams: Sequence[StreamRow]) -> str:
    """Of each camera its mean over the time that it was there."""
    by_name: dict[str, list[StreamRow]] = {}
    for one in streams:
        by_name.setdefault(one.stream, []).append(one)
    means = [float(np.mean([one.fps for one in found])) for found in by_name.values()]
    wanted = max(one.target_fps for one in streams)
    skipped = sum(one.skipped for one in streams)
    spread = figure(means[0]) if len(means) == 1 else f"{figure(min(means))} to {figure(max(means))}"
    told = f"{len(means)} cameras had {spread} of the {figure(wanted)} FPS wanted, in the mean"
    return f"{told}; {skipped} turns were skipped"


def _age_words(streams: Sequence[StreamRow]) -> str:
    known = [one.age_p99_s for one in streams if one.age_p99_s is not None]
    if not known:
        return "no frame was shown"
    return f"{seconds(float(np.median(known)))} in the median, {seconds(max(known))} at most"
