"""What a report opens with: how it was measured, on what, with what, how quiet it was, and what to doubt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidesight.experiments.report.comparing import Section, Subject
from tidesight.experiments.report.evidence import Evidence, number, table
from tidesight.experiments.report.words import UNKNOWN, figure, seconds

DRIVERS = {"tidesight": "Tidesight's own generator", "aiohttp": "Tidesight's own generator",
           "tidesight-cameras": "Tidesight's client of cameras", "locust": "Locust",
           "jmeter": "Apache JMeter"}  # fmt: skip

SPREAD = "Where a thing was measured several times: the median, and in brackets the least and the most."


@dataclass(frozen=True)
class RunRow:
    """One run in the list of runs; texts."""

    name: str
    scenario: str
    subject: str
    repeat: str
    began: str
    requests: str
    lag: str
    generator: str
    noise: str
    verdict: str
    why: tuple[str, ...]


def run_rows(sections: Sequence[Section]) -> list[RunRow]:
    """Every run, with what to think of it."""
    return [
        _run_row(section, subject, run) for section in sections for subject in section.subjects for run in subject.runs
    ]


def _run_row(section: Section, subject: Subject, run: Evidence) -> RunRow:
    doubts, gaps = run.doubts(), run.gaps()
    lag_ms, cpu, (before_ms, after_ms) = run.send_lag_p99_ms, run.generator_cpu, run.noise_ms
    noise = UNKNOWN if before_ms is None or after_ms is None else f"{figure(before_ms)} → {figure(after_ms)} ms"
    judged = "generator" in run.summary or run.simulated
    verdict = "in doubt" if doubts else "valid" if judged else UNKNOWN
    return RunRow(
        run.name, section.name, subject.label, _repeat(run), began(run),
        f"{len(run.answers):,}" if len(run.answers) else "none",
        "—" if run.simulated else UNKNOWN if lag_ms is None else f"{figure(lag_ms)} ms",
        "—" if run.simulated else UNKNOWN if cpu is None else f"{cpu:.0%}",
        "—" if run.simulated else noise, verdict, (*doubts, *gaps),
    )  # fmt: skip


def _repeat(run: Evidence) -> str:
    repeat = run.facts.get("repeat")
    return UNKNOWN if repeat is None else str(repeat)


def began(run: Evidence) -> str:
    """When it began, in UTC."""
    epoch_s = number(run.facts.get("started_epoch_s"))
    return UNKNOWN if epoch_s is None else f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M:%S}"


def method(sections: Sequence[Section]) -> list[str]:
    """How it was measured: what holds for these runs, and nothing else."""
    runs = [run for section in sections for run in section.runs]
    loaded = [run for run in runs if len(run.answers)]
    real = [run for run in loaded if not run.simulated]
    told = []
    if loaded:
        told.append(
            "Latency counts from when a request was due by the plan, not from when it was sent, so that a slow server "
            "cannot hide behind a generator that waits for it. Percentiles are of 2xx answers: the least latency that "
            "this part of them does not exceed."
        )
        told.append(_good_words(loaded))
    if real:
        names = sorted({DRIVERS.get(str(driver), str(driver)) for run in real if (driver := run.facts.get("driver"))})
        told.append(f"Requests were sent by {' and '.join(names)}." if names else "What sent the requests is unknown.")
    if any(run.platform and not run.simulated for run in runs):
        told.append(
            "Fleets are real processes behind a real Envoy on one machine; when instances come and go is decided by "
            "the named platform's own rule. Costs are what that platform would charge for the same seconds by its list "
            "prices."
        )
    if any(run.simulated for run in runs):
        told.append("Runs called simulated ran in virtual time: their figures are a model's, not measurements.")
    told.append(_repeats(sections))
    return told


def _good_words(loaded: Iterable[Evidence]) -> str:
    objectives = {run.objective_s for run in loaded}
    known = sorted(value for value in objectives if value is not None)
    told = (
        f"An answer is good when it is 2xx within the objective of {' or '.join(map(seconds, known))}." if known else ""
    )
    rest = "Where no objective is recorded, every 2xx counts as good." if None in objectives else ""
    return " ".join(one for one in (told, rest) if one)


def _repeats(sections: Sequence[Section]) -> str:
    counts = sorted({len(subject.runs) for section in sections for subject in section.subjects})
    if counts == [1]:
        return "Each thing was measured once: nothing is known of how far repeats would spread."
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    rest = "a figure is the median over repeats, with the least and the most beside"
    return f"Each thing was measured {many} times; {rest}."


def machines(runs: Sequence[Evidence]) -> list[str]:
    """Each machine that runs were made on, in a line; simulated runs have none that matters."""
    return _distinct(_machine(table(run.facts, "machine")) for run in runs)


def _machine(facts: Mapping[str, Any]) -> str:
    if not facts:
        return UNKNOWN
    memory, cpus = number(facts.get("memory_bytes")), number(facts.get("usable_cpus"))
    parts = [
        str(facts.get("cpu") or "unknown CPU"),
        f"{cpus:g} usable CPUs" if cpus is not None else "",
        f"{memory / 2**30:.1f} GiB" if memory is not None else "",
        f"Linux {facts['kernel']}" if facts.get("kernel") else "",
    ]
    return ", ".join(part for part in parts if part)


def versions(runs: Sequence[Evidence]) -> list[str]:
    """Each set of versions that runs were made with."""
    return _distinct(
        ", ".join(f"{name} {version}" for name, version in sorted(table(run.facts, "versions").items())) or UNKNOWN
        for run in runs
    )


def noise(runs: Sequence[Evidence]) -> str:
    """How evenly the machine computed."""
    known = [(run, *run.noise_ms) for run in runs if None not in run.noise_ms]
    times = [time_ms for _, before_ms, after_ms in known for time_ms in (before_ms, after_ms) if time_ms is not None]
    if not times:
        return "Unknown: no run measured it."
    worst = max((run for run, *_ in known), key=lambda run: abs(run.drift or 0.0))
    told = (
        f"The same piece of work took {figure(min(times))} to {figure(max(times))} ms before and after the runs; it "
        f"changed most, by {worst.drift or 0.0:+.0%}, during {worst.name}."
    )
    missing = sum(not run.simulated for run in runs) - len(known)
    return f"{told} {missing} runs did not measure it." if missing > 0 else told


def warnings(sections: Sequence[Section]) -> list[str]:
    """What a reader must know before any figure."""
    runs = [run for section in sections for run in section.runs]
    doubted = [run for run in runs if run.doubts()]
    found = []
    if doubted:
        found.append(f"{len(doubted)} of {len(runs)} runs are in doubt; the list of runs says why.")
    if len(machines([run for run in runs if not run.simulated])) > 1:
        found.append("Runs come from different machines: figures of one are not to be held against another's.")
    simulated = sum(run.simulated for run in runs)
    if simulated:
        found.append(f"{simulated} of {len(runs)} runs are simulated.")
    if len(versions(runs)) > 1:
        found.append("Runs were made with different versions.")
    return found


def load_words(scenario: Mapping[str, Any]) -> str:
    """Who asked what when, in a sentence."""
    load = table(scenario, "load")
    if not load:
        return "No load was recorded; fleets were only watched."
    lasted_s = number(scenario.get("duration_s"))
    during = f" for {figure(lasted_s)} s" if lasted_s is not None else ""
    if "users" in load:
        think_s = number(load.get("think_s")) or 0.0
        thinking = f"thinking {figure(think_s)} s between requests" if think_s else "without a pause between requests"
        spawn = number(load.get("spawn_per_s"))
        added = f"{figure(spawn)} added a second, " if spawn is not None else ""
        return f"{load['users']} users, {added}{thinking}{during}."
    if "cameras" in load:
        least, most = load.get("least"), load["cameras"]
        counts = f"{most} cameras" if least == most else f"{least} cameras, then {most}, then {least}"
        return f"{counts}, each at {figure(number(load.get('fps')) or 0.0)} frames a second{during}."
    parts = [
        _LOAD_WORDS.get(key, f"{key} {{}}").format(figure(value))
        for key, value in load.items()
        if isinstance(value, int | float) and not (key.endswith("_scale") and value == 1)
    ]
    kind = str(load.get("arrivals") or "unknown").capitalize()
    return f"{', '.join([f'{kind} arrivals', *parts])},{during}.".replace(",.", ".")


_LOAD_WORDS = {
    "rate_rps": "{} requests a second", "peak_rps": "{} at the peak", "mean_rps": "{} requests a second in the mean",
    "period_s": "a period of {} s", "burst_s": "bursts of {} s", "trace_s": "a trace of {} s",
    "time_scale": "its time scaled by {}", "rate_scale": "its rate scaled by {}",
}  # fmt: skip


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
