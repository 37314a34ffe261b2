"""The reference table of a scenario: ours, and beside it what a study publishes."""

from collections.abc import Callable
from dataclasses import dataclass

from tidesight.experiments.report.comparing import Section, Subject
from tidesight.experiments.report.published import Figure, published, study_of
from tidesight.experiments.report.words import (
    UNKNOWN,
    Form,
    dollars,
    figure,
    mebibytes,
    over_repeats,
    said_of,
    seconds,
    share,
)


@dataclass(frozen=True)
class Cell:
    """One figure of one subject.

    Attributes:
        ours: In words; "unknown" where it is not known.
        published: What the study says of it; None where it says nothing.
        note: In small print below.
    """

    ours: str
    published: Figure | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table, with a cell for each subject."""

    title: str
    about: str
    cells: tuple[Cell, ...]


def rows(section: Section) -> list[Row]:
    """The table of a scenario."""
    study = study_of(section)
    beside = [published(study, subject) if study else {} for subject in section.subjects]
    found = []
    for title, about, names, make in _LINES:
        cells = []
        for subject, figures in zip(section.subjects, beside, strict=True):
            ours, note = make(subject)
            cells.append(Cell(ours, next((figures[name] for name in names if name in figures), None), note))
        found.append(Row(title, about, tuple(cells)))
    return found


def _plain(name: str, form: Form) -> Callable[[Subject], tuple[str, str]]:
    return lambda subject: (over_repeats(subject.spreads[name], form), "")


def _cold(subject: Subject) -> tuple[str, str]:
    share_cold = subject.median("cold_share")
    if share_cold == 0 and subject.median("cold_s") is None:
        return "none", "an instance was always ready"
    note = f"{share(share_cold)} of requests were due with none ready" if share_cold is not None else ""
    return over_repeats(subject.spreads["cold_s"], seconds), note


def _start(subject: Subject) -> tuple[str, str]:
    hows = [start.how for run in subject.runs for start in run.starts if start.ready_s is not None]
    kinds = [f"{hows.count(how)} {how}" for how in sorted({how for how in hows if how})]
    delays = subject.platform.get("delays")
    told = {True: "with the platform's declared delays", False: "without the platform's own delays"}
    notes = [", ".join(kinds), told.get(delays, "") if isinstance(delays, bool) else ""]
    return over_repeats(subject.spreads["start_s"], seconds), "; ".join(one for one in notes if one)


def _memory(subject: Subject) -> tuple[str, str]:
    used = subject.median("memory_bytes")
    return over_repeats(subject.spreads["memory"], lambda value: f"{value:.2f}"), mebibytes(used) if used else ""


def _said(name: str) -> Callable[[Subject], tuple[str, str]]:
    titles = {"stable": "stable", "spikes": "spikes", "scales": "scales with the load", "static": "static"}

    def make(subject: Subject) -> tuple[str, str]:
        found = said_of(subject, name)
        return (titles[found[0]], found[1]) if found else (UNKNOWN, "")

    return make


def _failures(subject: Subject) -> tuple[str, str]:
    late = subject.median("late_share")
    note = f"and {share(late)} answered too late" if late else ""
    return over_repeats(subject.spreads["failure_share"], share), note


def _cost(subject: Subject) -> tuple[str, str]:
    dates = sorted({str(run.cost[1]) for run in subject.runs if run.cost[1]})
    usd = subject.median("usd")
    if usd is not None and subject.spreads["usd_per_thousand"] is None:
        return "no good answer", f"{dollars(usd)} in all"
    return over_repeats(subject.spreads["usd_per_thousand"], dollars), f"prices of {', '.join(dates)}" if dates else ""


def _goodput(subject: Subject) -> tuple[str, str]:
    offered = subject.median("sent_rps")
    note = f"of {figure(offered)}/s offered" if offered is not None else ""
    return over_repeats(subject.spreads["good_rps"], lambda value: f"{figure(value)}/s"), note


_LINES: tuple[tuple[str, str, tuple[str, ...], Callable[[Subject], tuple[str, str]]], ...] = (
    ("Start-up latency, cold", "first caller who found no instance ready", ("cold_s",), _cold),
    ("Start-up latency, warm", "median caller with an instance ready", ("warm_s",), _plain("warm_s", seconds)),
    ("Start of an instance", "from asked for to ready, median", (), _start),
    ("Average memory utilisation", "of an instance's limit", ("memory",), _memory),
    ("Average CPU utilisation", "of an instance's CPUs", ("cpu",), _plain("cpu", lambda value: f"{value:.2f}")),
    ("CPU profile", "mean over instances, second by second", ("profile",), _said("profile")),
    ("Scaling behaviour", "instances ready while requests were due", ("scaling",), _said("scaling")),
    ("Failure share", "requests without a 2xx answer", ("failure_share",), _failures),
    ("Latency p50", "of 2xx, from when each request was due", (), _plain("p50_s", seconds)),
    ("Latency p95", "likewise", (), _plain("p95_s", seconds)),
    ("Latency p99", "likewise", (), _plain("p99_s", seconds)),
    ("Good answers", "2xx within the objective", (), _goodput),
    ("Instance-seconds", "from asked for to ended", (), _plain("instance_s", lambda value: f"{figure(value)} s")),
    ("Cost of 1000 good answers", "at dated list prices of the platform's own class", (), _cost),
)
