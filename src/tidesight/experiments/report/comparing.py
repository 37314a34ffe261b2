"""Runs put side by side: repeats of one thing, things under one scenario, scenarios in one report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tidesight.experiments.report.evidence import Evidence, table
from tidesight.experiments.report.figures import NAMES, Figures, figures

PLATFORMS = {
    "gke": "GKE", "cloud-run": "Cloud Run", "app-engine": "App Engine", "app-engine-standard": "App Engine",
    "app-engine-flexible": "App Engine flexible",
}  # fmt: skip
UNLOADED = "no scenario"


@dataclass(frozen=True)
class Spread:
    """A figure over repeats: the median, the least, the most, and of how many."""

    median: float
    least: float
    most: float
    count: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Over the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return Spread(float(np.median(known)), min(known), max(known), len(known)) if known else None


@dataclass(frozen=True)
class Subject:
    """What was measured, with its repeats.

    Attributes:
        label: Short and unique in its section.
        runs: Its repeats, in order.
    """

    label: str
    runs: tuple[Evidence, ...]

    @cached_property
    def figures(self) -> tuple[Figures, ...]:
        """Of each run."""
        return tuple(figures(run) for run in self.runs)

    @cached_property
    def spreads(self) -> dict[str, Spread | None]:
        """Every figure over the repeats."""
        return {name: spread(getattr(one, name) for one in self.figures) for name in NAMES}

    @cached_property
    def typical(self) -> Evidence:
        """The repeat whose share of good answers is in the middle: the one that charts of a single run show."""
        rates = [one.good_rps or 0.0 for one in self.figures]
        return self.runs[int(np.argsort(rates, kind="stable")[(len(rates) - 1) // 2])]

    @property
    def platform(self) -> Mapping[str, Any]:
        """The rules of its first repeat; all have the same."""
        return self.runs[0].platform

    @property
    def has_requests(self) -> bool:
        """Whether any repeat recorded requests."""
        return any(len(run.answers) for run in self.runs)

    def median(self, name: str) -> float | None:
        """Of a figure; None where it is unknown."""
        found = self.spreads[name]
        return None if found is None else found.median


@dataclass(frozen=True)
class Section:
    """One scenario, and all that was measured under it.

    Attributes:
        name: Of the scenario.
        scenario: As a run has it; empty for fleets that were only watched.
        subjects: In the order of the runs.
        anchor: For links.
    """

    name: str
    scenario: Mapping[str, Any]
    subjects: tuple[Subject, ...]
    anchor: str = field(default="")

    @property
    def runs(self) -> tuple[Evidence, ...]:
        """All of them."""
        return tuple(run for subject in self.subjects for run in subject.runs)


def sections(runs: Sequence[Evidence]) -> tuple[Section, ...]:
    """Group runs by scenario, then by what was measured, each in the order in which it first appears."""
    by_scenario: dict[str, list[Evidence]] = {}
    for run in runs:
        by_scenario.setdefault(_scenario_key(run), []).append(run)
    names = [str(group[0].scenario.get("name") or UNLOADED) for group in by_scenario.values()]
    found = []
    for place, (name, group) in enumerate(zip(names, by_scenario.values(), strict=True)):
        again = names[:place].count(name)  # the same name, another load
        title = f"{name} ({again + 1})" if again else name
        found.append(Section(title, group[0].scenario, _subjects(group), f"scenario-{place + 1}"))
    return tuple(found)


def _scenario_key(run: Evidence) -> str:
    """What makes two loads the same: all but seeds and what other platforms it is meant for."""
    scenario = {key: value for key, value in run.scenario.items() if key not in ("seeds", "platforms", "shows", "note")}
    return json.dumps(scenario, sort_keys=True, default=str)


def _subjects(runs: Sequence[Evidence]) -> tuple[Subject, ...]:
    by_key: dict[str, list[Evidence]] = {}
    for run in runs:
        by_key.setdefault(_subject_key(run), []).append(run)
    groups = [tuple(sorted(group, key=_repeat)) for group in by_key.values()]
    bases = [_base_label(group[0]) for group in groups]
    labels = [
        _full_label(group[0], [other[0] for other, base in zip(groups, bases, strict=True) if base == own])
        for group, own in zip(groups, bases, strict=True)
    ]
    unique = [
        f"{label} ({labels[:place].count(label) + 1})" if labels.count(label) > 1 else label
        for place, label in enumerate(labels)
    ]
    return tuple(Subject(label, group) for label, group in zip(unique, groups, strict=True))


def _repeat(run: Evidence) -> tuple[float, str]:
    repeat = run.facts.get("repeat")
    return (float(repeat) if isinstance(repeat, int | float) else 0.0, run.name)


def _subject_key(run: Evidence) -> str:
    where = dict(run.platform) if run.platform else {"url": run.facts.get("url")}
    return json.dumps([where, run.simulated, run.facts.get("driver")], sort_keys=True, default=str)


def _base_label(run: Evidence) -> str:
    name = str(run.platform.get("name") or "")
    if name:
        label = PLATFORMS.get(name, name)
    else:
        url = urlsplit(str(run.facts.get("url") or ""))
        label = str(run.facts.get("arm") or url.netloc.rpartition("@")[2] or "unknown target")
    variant = str(table(run.facts, "variant").get("name") or "")
    label = f"{label}, {variant}" if variant else label
    return f"{label} (simulated)" if run.simulated else label


def _full_label(run: Evidence, namesakes: Sequence[Evidence]) -> str:
    """The base label, and what sets it apart from others of that name."""
    apart = []
    for telling in _TELLING:
        if len({telling(one) for one in namesakes}) > 1:
            apart.append(telling(run))
    return ", ".join([_base_label(run), *(one for one in apart if one)])


def _limit(run: Evidence) -> str:
    most = run.platform.get("max")
    return f"at most {most}" if most is not None else "no limit" if run.platform else ""


def _least(run: Evidence) -> str:
    return f"at least {run.platform['min']}" if run.platform.get("min") is not None else ""


def _gets(run: Evidence) -> str:
    gets = table(run.platform, "instance")
    return f"{gets['cpu']:g} CPU" if isinstance(gets.get("cpu"), int | float) else ""


def _policy(run: Evidence) -> str:
    return str(run.platform.get("policy") or "")


def _set(run: Evidence) -> str:
    return ", ".join(f"{key}={value}" for key, value in table(run.platform, "set").items() if "_instances" not in key)


def _delays(run: Evidence) -> str:
    return "with declared delays" if run.platform.get("delays") else ""


def _path(run: Evidence) -> str:
    return urlsplit(str(run.facts.get("url") or "")).path if not run.platform else ""


def _driver(run: Evidence) -> str:
    driver = run.facts.get("driver")
    return f"by {driver}" if driver else ""


_TELLING = (_limit, _least, _gets, _policy, _set, _delays, _path, _driver)
