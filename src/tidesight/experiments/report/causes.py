"""The known causes of a difference to a published figure. Each looks whether the runs bear it out, and says by what."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tidesight.errors import TidesightError
from tidesight.experiments.report.answers import Fate
from tidesight.experiments.report.comparing import Subject
from tidesight.experiments.report.evidence import number, table
from tidesight.experiments.report.published import Figure, Study
from tidesight.experiments.report.words import figure, mebibytes, seconds, share
from tidesight.platforms.platform import Platform
from tidesight.platforms.registry import parse_assignments, platform

_BUSY = 0.8
_WIDE = 1.5
_NOISY = 1.25
_ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Beside:
    """A published figure beside the subject that measured it again."""

    study: Study
    subject: Subject
    theirs: Figure

    def ours(self, name: str | None = None) -> float | None:
        """Our median of this figure, or of another."""
        name = name or self.theirs.figure
        return self.subject.median(name) if name in self.subject.spreads else None

    @property
    def higher(self) -> bool | None:
        """Whether ours is above the published value; None for words."""
        ours = self.ours()
        return None if ours is None or self.theirs.value is None else ours > self.theirs.value

    @property
    def rules(self) -> Platform | None:
        """The platform's own rules as they were set; None for one that is not ours to know."""
        known = self.subject.platform
        with suppress(TidesightError):
            changes = [f"{key}={value}" for key, value in table(known, "set").items()]
            return platform(str(known.get("name")), parse_assignments(changes))
        return None


def causes_of(beside: Beside) -> tuple[str, ...]:
    """A sentence for every known cause that applies."""
    found = (cause(beside) for cause in _BY_FIGURE[beside.theirs.figure])
    return tuple(one for one in found if one)


def instance_class(beside: Beside) -> str | None:
    """What an instance has; the studies do not say what theirs had."""
    gets = table(beside.subject.platform, "instance")
    cpu, memory_bytes = number(gets.get("cpu")), number(gets.get("memory_bytes"))
    if cpu is None or memory_bytes is None:
        return None
    told = f"Instance class: ours had {cpu:g} CPU and {mebibytes(memory_bytes)}"
    rules = beside.rules
    if rules is not None and abs(rules.instance.vcpu - cpu) > 1e-9:
        told += f" (the platform's own class: {rules.instance.vcpu:g} vCPU, {rules.instance.memory_gib:g} GiB)"
    told += "; the study states none"
    used = beside.ours("memory_bytes")
    if beside.theirs.figure == "memory" and used and beside.theirs.value:
        told += (
            f". Our {mebibytes(used)} would be its {beside.theirs.value:.2f} of {mebibytes(used / beside.theirs.value)}"
        )
    elif beside.theirs.figure == "memory":
        return None
    else:
        busy, peak = beside.ours("cpu"), beside.ours("cpu_peak")
        if busy is None or peak is None or peak < _BUSY or not beside.higher:
            return None
        told += f". Instances used {share(busy)} of their CPU on average, {share(peak)} at the peak"
    return told + "."


def image_size(beside: Beside) -> str | None:
    """What an image and its start carry; only explains what is lower in ours."""
    if beside.higher is not False:
        return None
    engine = _engine(beside.subject)
    starts = [start for run in beside.subject.runs for start in run.starts if start.ready_s is not None]
    forked = sum(start.how == "forked" for start in starts)
    if beside.theirs.figure == "memory":
        used = beside.ours("memory_bytes")
        told = f", takes {mebibytes(used)} with its model" if used else ""
        shared = f"; {forked} of {len(starts)} were forked, and what they share with their template is not counted"
        holds = f"the study's instance holds {beside.study.framework}"
        return f"Image and runtime: {holds}; ours, {engine}{told}{shared if forked else ''}."
    told = f"Image and runtime: the study's instance loads {beside.study.framework}, ours {engine}"
    if starts:
        told += f"; {forked} of our {len(starts)} starts were forked from a loaded template, which skips loading it"
    return told + "."


def platform_delays(beside: Beside) -> str | None:
    """What a platform adds before a process begins: placing and pulling the image."""
    delays, rules = beside.subject.platform.get("delays"), beside.rules
    if delays is not False or beside.higher is not False:
        return None
    told = "Image pull and placing: ours were run without the platform's own part of a start"
    if rules is not None and rules.start_up.instance.typical_s > 0:
        told += f", which its rules put at {seconds(rules.start_up.instance.typical_s)} typically (`--delays` adds it)"
    return told + "."


def concurrency(beside: Beside) -> str | None:
    """How many requests share an instance."""
    inside, rules = beside.ours("in_flight"), beside.rules
    if inside is None or beside.higher is False:
        return None
    if beside.study.threads is not None and inside <= beside.study.threads:
        return None
    theirs = (
        f"the study's took {beside.study.threads} at a time" if beside.study.threads else "the study states no limit"
    )
    most = rules.instance.concurrency if rules else None
    limit = f" (the platform sends at most {most})" if most else ""
    return f"Concurrency: on average {figure(inside)} requests were inside a ready instance of ours{limit}; {theirs}."


def cold_share(beside: Beside) -> str | None:
    """How many requests met a start."""
    cold = beside.ours("cold_share")
    if cold is None:
        return None
    if cold == 0:
        least = beside.subject.platform.get("min")
        if beside.theirs.figure != "profile" or beside.theirs.word != "spikes":
            return None
        return f"Cold-start share: none of our requests met a cold start (at least {least} instances were kept)."
    first = beside.ours("cold_s")
    told = f"Cold-start share: {share(cold)} of our requests were due while no instance was ready"
    return f"{told}; the first of them waited {seconds(first)}." if first is not None else f"{told}."


def tick_period(beside: Beside) -> str | None:
    """How often the rule decides, against how long the load lasts."""
    tick_s, first_s = beside.ours("tick_s"), beside.ours("first_up_s")
    lasted_s = number(beside.subject.runs[0].scenario.get("duration_s"))
    rules = beside.rules
    tick_s = rules.scaling.tick_s if rules is not None else tick_s
    if tick_s is None or lasted_s is None or beside.subject.platform.get("max") == beside.subject.platform.get("min"):
        return None
    told = f"Tick period: the rule decides every {seconds(tick_s)}"
    if first_s is not None:
        part = min(1.0, first_s / lasted_s)
        return f"{told} and first added an instance {seconds(first_s)} into the load, after {share(part)} of it."
    if beside.ours("ups") == 0:
        return (
            f"{told}, {int(lasted_s / tick_s)} times in this load of {seconds(lasted_s)}, and never added an instance."
        )
    return None


def queueing(beside: Beside) -> str | None:
    """Where requests wait when no instance can take them, and what the answers show of it."""
    rules, held = beside.rules, beside.ours("held")
    if rules is None:
        return None
    runs = [run for run in beside.subject.runs if len(run.answers)]
    if not runs:
        return None
    counts = {fate: sum(int((run.answers.fate == fate).sum()) for run in runs) for fate in Fate}
    failed = ((Fate.REFUSED, "refused with 429 or 503"), (Fate.TIMEOUT, "given up by their callers"),
              (Fate.SERVER, "answered with another 5xx"), (Fate.NONE, "left without an answer"))  # fmt: skip
    told = [f"{counts[fate]} were {words}" for fate, words in failed if counts[fate]]
    rule = {
        "activator": "it holds requests in front of the fleet",
        "instance": "a ready instance gets every request whatever it has, nothing holds them in front",
    }[rules.queueing.where]
    waited = f", at most {figure(held)} at a time" if held and rules.queueing.where == "activator" else ""
    if not told and not waited:
        return None
    total = sum(counts.values())
    outcome = f"; of {total} requests {', '.join(told)}" if told else "; none failed"
    return f"Queueing rule: {rule}{waited}{outcome}."


def scaled_load(beside: Beside) -> str | None:
    """Whether our load is that of the study."""
    load = table(beside.subject.runs[0].scenario, "load")
    for key, theirs, unit in (
        ("users", beside.study.users, "users"),
        ("rate_rps", beside.study.rate_rps, "requests/s"),
    ):
        ours = number(load.get(key))
        if ours is not None and theirs and abs(ours / theirs - 1) > 0.01:
            return f"Load: ours was {figure(ours)} {unit}, {figure(ours / theirs)} times the study's {theirs:g}."
    return None


def bounds(beside: Beside) -> str | None:
    """Bounds that leave the rule no choice, or a choice that the study did not have."""
    known = beside.subject.platform
    least, most = known.get("min"), known.get("max")
    if least is None:
        return None
    limit = "without a limit" if most is None else f"at most {most}"
    return f"Bounds: ours was given at least {least} and {limit}; the study states neither."


def spread_too_wide(beside: Beside) -> str | None:
    """Repeats so far apart that a difference says little."""
    ours = beside.subject.spreads.get(beside.theirs.figure)
    if ours is None or ours.count < 2 or ours.least <= 0 or ours.most / ours.least < _WIDE:
        return None
    return f"Spread: our repeats differ among themselves by a factor of {figure(ours.most / ours.least)}."


def doubtful(beside: Beside) -> str | None:
    """Runs that are themselves in doubt."""
    doubted = [run for run in beside.subject.runs if run.doubts()]
    if not doubted:
        return None
    return f"Validity: in doubt are {len(doubted)} of {len(beside.subject.runs)} runs; the list of runs says why."


def noise(beside: Beside) -> str | None:
    """A machine that others used too."""
    times = [time_ms for run in beside.subject.runs for time_ms in run.noise_ms if time_ms]
    if not times or max(times) / min(times) < _NOISY:
        return None
    least, most = figure(min(times)), figure(max(times))
    return f"Noise: the same piece of work took {least} to {most} ms around these runs: the machine was not ours alone."


def _engine(subject: Subject) -> str:
    versions = table(subject.runs[0].facts, "versions")
    names = [f"{name} {versions[package]}" for package, name in _ENGINES.items() if package in versions]
    return " or ".join(names) or "an engine that the run does not name"


_Cause = Callable[[Beside], str | None]
_OF_LATENCY: tuple[_Cause, ...] = (
    instance_class, image_size, platform_delays, concurrency, cold_share, tick_period, queueing, scaled_load,
    spread_too_wide, noise, doubtful,
)  # fmt: skip
_OF_SHAPE: tuple[_Cause, ...] = (bounds, cold_share, tick_period, scaled_load, noise, doubtful)
_BY_FIGURE: dict[str, tuple[_Cause, ...]] = {
    "cold_s": _OF_LATENCY,
    "warm_s": _OF_LATENCY,
    "memory": (instance_class, image_size, concurrency, spread_too_wide, doubtful),
    "failure_share": (
        scaled_load, instance_class, concurrency, queueing, tick_period, cold_share, spread_too_wide, noise, doubtful,
    ),
    "profile": _OF_SHAPE,
    "scaling": _OF_SHAPE,
}  # fmt: skip
