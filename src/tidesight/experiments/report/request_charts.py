"""Charts of what callers saw: latency, rates, what became of requests, the distribution of latency, cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidesight.experiments.report.answers import FATES, Binned, Fate, Floats, bin_width_s, binned
from tidesight.experiments.report.comparing import Section, Subject
from tidesight.experiments.report.drawing import (
    Chart,
    Trace,
    band,
    escaped,
    line,
    log_axis,
    on_row,
    over,
    rows,
    single,
    tidy,
)
from tidesight.experiments.report.words import dollars, figure, over_repeats, seconds, share

PERCENTS = (50.0, 95.0, 99.0)
SINCE = "seconds since the first request was due"
_POINTS = 160
_FATE_COLOURS = {
    Fate.GOOD: "@good", Fate.LATE: "@late", Fate.REFUSED: "@refused", Fate.CLIENT: "@client", Fate.SERVER: "@server",
    Fate.TIMEOUT: "@timeout", Fate.NONE: "@none",
}  # fmt: skip
_Series = dict[str, list[Binned]]
Counts = npt.NDArray[np.int64]


def request_charts(section: Section) -> list[Chart]:
    """All that requests say; nothing where none were recorded."""
    loaded = [(place, subject) for place, subject in enumerate(section.subjects) if subject.has_requests]
    if not loaded:
        return []
    series = _series([subject for _, subject in loaded])
    charts = [_latency(loaded, series), _rates(loaded, series), _fates(loaded, series), _distribution(loaded)]
    cost = _cost(loaded)
    return [*charts, cost] if cost else charts


_Loaded = list[tuple[int, Subject]]


def _series(subjects: Sequence[Subject]) -> _Series:
    """Every repeat in bins of one width and number, so that repeats can be laid over each other."""
    runs = [run for subject in subjects for run in subject.runs if len(run.answers)]
    longest_s = max(run.load_s for run in runs)
    width_s = bin_width_s(longest_s)
    return {
        subject.label: [binned(run.answers, width_s, longest_s, PERCENTS) for run in subject.runs if len(run.answers)]
        for subject in subjects
    }


def _latency(loaded: _Loaded, series: _Series) -> Chart:
    traces: list[Trace] = []
    for row, percent in enumerate(PERCENTS):
        for place, subject in loaded:
            bins = series[subject.label]
            middle, low, high = over([one.percentiles_s[percent] * 1e3 for one in bins])
            where, colour = on_row(row), f"@{place}"
            if len(bins) > 1:
                traces.append(
                    band(bins[0].middle_s, low, high, subject.label, colour, legendgroup=subject.label, **where)
                )
            hover = f"%{{y:.4~g}} ms at %{{x}} s<extra>{escaped(subject.label)}, p{percent:g}</extra>"
            traces.append(
                line(tidy(bins[0].middle_s, 6), tidy(middle), escaped(subject.label), colour, hovertemplate=hover,
                     legendgroup=subject.label, showlegend=row == 0, **where)
            )  # fmt: skip
    axes = [
        log_axis(np.concatenate([one.percentiles_s[percent] * 1e3 for bins in series.values() for one in bins]))
        for percent in PERCENTS
    ]
    width_s = next(iter(series.values()))[0].width_s
    caption = (
        f"Latency of 2xx answers by when each request was due, in bins of {width_s:g} s; logarithmic."
        f"{_repeats_words(loaded)} {_latency_words(loaded)}"
    )
    titles = [f"p{percent:g}" for percent in PERCENTS]
    return Chart("latency", "Latency over time", caption, traces, rows(titles, SINCE, axes))


def _repeats_words(loaded: _Loaded) -> str:
    most = max(len(subject.runs) for _, subject in loaded)
    return " Lines are medians over repeats, bands reach from the least to the most." if most > 1 else ""


def _latency_words(loaded: _Loaded) -> str:
    told = []
    for _, subject in loaded:
        found = [subject.spreads[name] for name in ("p50_s", "p99_s")]
        if found[0] is not None:
            told.append(
                f"{subject.label}: p50 {over_repeats(found[0], seconds)}, p99 {over_repeats(found[1], seconds)}"
            )
        else:
            told.append(f"{subject.label}: no 2xx answer")
    return "; ".join(told) + "."


def _rates(loaded: _Loaded, series: _Series) -> Chart:
    traces: list[Trace] = []
    for row, (place, subject) in enumerate(loaded):
        bins, where = series[subject.label], on_row(row)
        at_s = tidy(bins[0].middle_s, 6)
        curves: tuple[tuple[str, list[Counts], str, dict[str, Any]], ...] = (
            ("offered", [one.offered for one in bins], "@quiet", {"dash": "dot", "width": 1.5}),
            ("answered 2xx", [one.answered for one in bins], f"@{place}/55", {"width": 1.5}),
            ("good", [one.good for one in bins], f"@{place}", {}),
        )
        for name, counts, colour, style in curves:
            rate = [count / one.width_s for count, one in zip(counts, bins, strict=True)]
            middle, low, high = over(rate)
            if name == "good" and len(bins) > 1:
                traces.append(band(bins[0].middle_s, low, high, name, f"@{place}", **where))
            hover = f"%{{y:.3~g}}/s at %{{x}} s<extra>{escaped(subject.label)}, {name}</extra>"
            traces.append(
                line(at_s, tidy(middle), name, colour, line=style, hovertemplate=hover, showlegend=False, **where)
            )
    told = [
        f"{subject.label}: {over_repeats(subject.spreads['good_rps'], figure)} good of "
        f"{over_repeats(subject.spreads['sent_rps'], figure)} offered a second"
        for _, subject in loaded
    ]
    caption = (
        "Requests due a second (dotted), 2xx answers that arrived (faint) and those within the objective (full). "
        + "; ".join(told) + "."
    )  # fmt: skip
    axes = [{"matches": "y"} if row else {} for row in range(len(loaded))]
    titles = [f"{subject.label}, requests a second" for _, subject in loaded]
    return Chart("rates", "Offered and answered rate", caption, traces, rows(titles, SINCE, axes, 120))


def _fates(loaded: _Loaded, series: _Series) -> Chart:
    traces: list[Trace] = []
    shown: set[Fate] = set()
    for row, (_, subject) in enumerate(loaded):
        bins = series[subject.label]
        for fate, title in FATES.items():
            counts = np.sum([one.fates[fate] for one in bins], axis=0)
            if not counts.any():
                continue
            rate = counts / len(bins) / bins[0].width_s
            hover = f"%{{y:.3~g}}/s at %{{x}} s<extra>{escaped(subject.label)}, {title}</extra>"
            traces.append(
                {"type": "bar", "x": tidy(bins[0].middle_s, 6), "y": tidy(rate), "name": title,
                 "width": bins[0].width_s, "marker": {"color": _FATE_COLOURS[fate], "line": {"width": 0}},
                 "hovertemplate": hover, "legendgroup": title, "showlegend": fate not in shown, "legendrank": int(fate),
                 **on_row(row)}
            )  # fmt: skip
            shown.add(fate)
    axes = [{"matches": "y"} if row else {} for row in range(len(loaded))]
    titles = [f"{subject.label}, requests a second" for _, subject in loaded]
    layout = rows(titles, SINCE, axes, 120) | {"barmode": "stack", "bargap": 0}
    caption = f"By when each request was due; the mean over repeats. {_fates_words(loaded)}"
    return Chart("fates", "What became of requests", caption, traces, layout)


def _fates_words(loaded: _Loaded) -> str:
    told = []
    for _, subject in loaded:
        fates = np.concatenate([run.answers.fate for run in subject.runs])
        parts = [
            f"{share(float((fates == fate).mean()))} {title}" for fate, title in FATES.items() if (fates == fate).any()
        ]
        told.append(f"{subject.label}: {', '.join(parts)}")
    return "; ".join(told) + "."


def _distribution(loaded: _Loaded) -> Chart:
    served = [run.answers.latency_s[run.answers.served] for _, subject in loaded for run in subject.runs]
    least_s = min((float(one.min()) for one in served if len(one)), default=1e-3)
    most_s = max((float(one.max()) for one in served if len(one)), default=1.0)
    at_s = np.geomspace(max(least_s, 1e-4) * 0.9, max(most_s, 2e-4) * 1.1, _POINTS)
    traces: list[Trace] = []
    for place, subject in loaded:
        parts = [_within(run.answers.latency_s[run.answers.served], len(run.answers), at_s)
                 for run in subject.runs if len(run.answers)]  # fmt: skip
        middle, low, high = over(parts)
        if len(parts) > 1:
            traces.append(band(at_s * 1e3, low, high, subject.label, f"@{place}", legendgroup=subject.label))
        hover = f"%{{y:.2f}} % within %{{x:.4~g}} ms<extra>{escaped(subject.label)}</extra>"
        traces.append(
            line(tidy(at_s * 1e3), tidy(middle), escaped(subject.label), f"@{place}", hovertemplate=hover,
                 legendgroup=subject.label)
        )  # fmt: skip
    layout = single(
        {**log_axis(at_s * 1e3), "title": {"text": "latency from when due (logarithmic)"}},
        {"range": [0, 102], "ticksuffix": " %"},
    )
    objectives = {run.objective_s for _, subject in loaded for run in subject.runs if run.objective_s}
    layout["shapes"] = [_upright(1e3 * value) for value in objectives]
    within = "; the dotted line is the objective" if objectives else ""
    caption = (
        "The part of all requests that had a 2xx answer within a time: what failed keeps a curve below 100 %"
        f"{within}.{_repeats_words(loaded)}"
    )
    return Chart("cdf", "Distribution of latency", caption, traces, layout)


def _within(latency_s: Floats, sent: int, at_s: Floats) -> Floats:
    return 100 * np.searchsorted(np.sort(latency_s), at_s, "right") / sent


def _upright(at: float) -> dict[str, Any]:
    style = {"color": "@notice", "dash": "dot", "width": 1.5}
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": style}


def _cost(loaded: _Loaded) -> Chart | None:
    traces: list[Trace] = []
    told = []
    for place, subject in loaded:
        known = [one for one in subject.figures if one.good_rps is not None and one.usd_per_thousand is not None]
        if not known:
            continue
        x = tidy([one.good_rps or 0.0 for one in known])
        y = tidy([one.usd_per_thousand or 0.0 for one in known])
        hover = f"%{{y:.3~g}} USD for 1000 at %{{x:.3~g}}/s<extra>{escaped(subject.label)}</extra>"
        style = {"color": f"@{place}", "line": {"width": 1, "color": "@panel"}}
        dots: Trace = {"type": "scatter", "mode": "markers", "name": escaped(subject.label), "cliponaxis": False}
        traces.append({**dots, "x": x, "y": y, "marker": style | {"size": 9}, "hovertemplate": hover})
        if len(known) > 1:
            middle = (subject.median("good_rps") or 0.0, subject.median("usd_per_thousand") or 0.0)
            traces.append({**dots, "x": tidy(middle[:1]), "y": tidy(middle[1:]), "showlegend": False,
                           "marker": style | {"size": 17, "symbol": "diamond"}, "hovertemplate": hover})  # fmt: skip
        told.append(f"{subject.label}: {over_repeats(subject.spreads['usd_per_thousand'], dollars)}")
    if not traces:
        return None
    dates = sorted({str(run.cost[1]) for _, subject in loaded for run in subject.runs if run.cost[1]})
    layout = single(
        {"title": {"text": "good answers a second"}, "rangemode": "tozero"},
        {"tickprefix": "$"},
        300,
    )
    caption = (
        "US dollars for 1000 good answers; a point for each repeat, a diamond for their median; lower and further "
        f"right is better. List prices of {', '.join(dates) or 'unknown date'}, "
        f"of the platform's own instance class. For 1000 good answers, {'; '.join(told)}."
    )
    return Chart("cost", "Cost against goodput", caption, traces, layout)
