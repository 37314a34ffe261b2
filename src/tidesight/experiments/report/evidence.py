"""A run as far as its files tell: what is absent is None, and a report says that it is unknown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidesight.errors import DataError
from tidesight.experiments.report.answers import Answers, reduced
from tidesight.runs.reader import RunReader
from tidesight.runs.rows import FRONT, DecisionRow, SampleRow, StreamRow

_NOISY = 0.10


@dataclass(frozen=True)
class Start:
    """The life of one instance, in seconds of its run; None for what was not recorded.

    Attributes:
        id: Its name.
        asked_s: The decision to have it.
        placed_s: There was a machine for it.
        spawned_s: Its process began; the time since then was for placing and its image.
        ready_s: It took requests.
        ended_s: Its process was gone.
        how: Such as "forked" or "fresh".
    """

    id: str
    asked_s: float | None = None
    placed_s: float | None = None
    spawned_s: float | None = None
    ready_s: float | None = None
    ended_s: float | None = None
    how: str | None = None

    @property
    def took_s(self) -> float | None:
        """From asked to ready."""
        return None if self.asked_s is None or self.ready_s is None else self.ready_s - self.asked_s


@dataclass(frozen=True)
class Evidence:
    """One run, its requests reduced to what a report is made of.

    Attributes:
        folder: Of the run.
        facts: `run.json`.
        summary: `summary.json`; empty where there is none.
        answers: Its requests.
        instances: Samples of instances.
        front: Samples of what stands before them.
        decisions: Of the scaling rule.
        truncated: Why something is missing; None for a whole run.
        starts: Lives of its instances.
        streams: How cameras fared, where the load was cameras.
    """

    folder: Path
    facts: Mapping[str, Any]
    summary: Mapping[str, Any]
    answers: Answers
    instances: tuple[SampleRow, ...] = ()
    front: tuple[SampleRow, ...] = ()
    decisions: tuple[DecisionRow, ...] = ()
    truncated: str | None = None
    starts: tuple[Start, ...] = field(default=())
    streams: tuple[StreamRow, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.resolve().name

    @property
    def scenario(self) -> Mapping[str, Any]:
        """What was asked when; empty for a fleet that was only watched."""
        found = self.facts.get("scenario")
        return {"name": found} if isinstance(found, str) else table(self.facts, "scenario")

    @property
    def platform(self) -> Mapping[str, Any]:
        """The rules it ran under; empty for a URL."""
        return table(self.facts, "platform")

    @property
    def simulated(self) -> bool:
        """Whether it ran in virtual time."""
        return bool(self.facts.get("simulated"))

    @property
    def objective_s(self) -> float | None:
        """An answer later than this is not good."""
        return number(self.scenario.get("objective_s")) or number(self.summary.get("objective_s"))

    @property
    def load_s(self) -> float:
        """How long requests were sent: as planned, or as long as it came to where it was cut off."""
        planned_s = number(self.scenario.get("duration_s"))
        cut = self.truncated or self.summary.get("stopped") or self.summary.get("error")
        return max(0.0 if cut or planned_s is None else planned_s, self.answers.seconds)

    @property
    def send_lag_p99_ms(self) -> float | None:
        """How late the generator sent, at p99."""
        generator = table(self.summary, "generator")
        p99_s = number(table(generator, "send_lag").get("p99_s"))
        own_ms = number(generator.get("send_lag_p99_ms"))
        return own_ms if own_ms is not None else None if p99_s is None else 1e3 * p99_s

    @property
    def generator_cpu(self) -> float | None:
        """CPUs that the generator took."""
        generator = table(self.summary, "generator")
        found = number(generator.get("cpu"))
        return found if found is not None else number(generator.get("cpu_ratio"))

    @property
    def noise_ms(self) -> tuple[float | None, float | None]:
        """What the same small piece of work took before and after."""
        noise = table(self.facts, "noise") or table(self.summary, "noise")
        return number(noise.get("before_ms")), number(noise.get("after_ms"))

    @property
    def drift(self) -> float | None:
        """By how much the machine was slower after than before; 0.1 is 10 %."""
        before_ms, after_ms = self.noise_ms
        return after_ms / before_ms - 1 if before_ms and after_ms else None

    @property
    def cost(self) -> tuple[float | None, str | None]:
        """Dollars, and the date of the prices."""
        cost = table(self.summary, "cost")
        return number(cost.get("usd")), cost.get("prices_of")

    def doubts(self) -> list[str]:
        """Reasons not to believe it, in words."""
        generator = table(self.summary, "generator")
        told = _words(self.summary.get("invalid")) or _words(generator.get("why"))
        if generator.get("valid") is False and not told:
            told.append("the generator calls it invalid and does not say why")
        found = list(dict.fromkeys(told))
        if self.truncated:
            found.append(f"truncated: {self.truncated}")
        for key in ("stopped", "error"):
            if self.summary.get(key):
                found.append(f"{key if key == 'error' else 'ended early'}: {self.summary[key]}")
        if self.drift is not None and abs(self.drift) > _NOISY:
            faster = "slower" if self.drift > 0 else "faster"
            found.append(f"the machine was {abs(self.drift):.0%} {faster} after the run than before it")
        return found

    def gaps(self) -> list[str]:
        """What it has no record of, in words."""
        found = []
        if not len(self.answers):
            found.append("no requests were recorded: nothing is known of latency and failures")
        if not self.instances:
            found.append("no instances were watched: nothing is known of CPU, memory and scaling")
        return found


def read_evidence(folder: Path) -> Evidence:
    """Read a run and reduce it.

    Raises:
        DataError: there is no run in the folder, or a table of it is not of this format.
    """
    reader = RunReader(folder)
    facts, summary = reader.facts, reader.summary
    objective_s = number(table(facts, "scenario").get("objective_s")) or number(summary.get("objective_s"))
    answers = reduced(reader.requests(), objective_s)
    samples, decisions, streams = reader.samples(), reader.decisions(), reader.streams()
    return Evidence(
        folder, facts, summary, answers,
        tuple(one for one in samples if one.instance != FRONT), tuple(one for one in samples if one.instance == FRONT),
        tuple(decisions), reader.truncated or summary.get("truncated") or None, _starts(summary, folder),
        tuple(streams),
    )  # fmt: skip


def table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table of that name; empty where there is none."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def number(value: Any) -> float | None:
    """A number, or None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _starts(summary: Mapping[str, Any], folder: Path) -> tuple[Start, ...]:
    listed = summary.get("starts") or []
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        raise DataError(f"{folder}: `starts` in summary.json: expected a list of objects")
    times = ("asked_s", "placed_s", "spawned_s", "ready_s", "ended_s")
    return tuple(
        Start(str(one.get("id", place)), how=one.get("how"), **{key: number(one.get(key)) for key in times})
        for place, one in enumerate(listed, 1)
    )


def _words(value: Any) -> list[str]:
    if not value:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
