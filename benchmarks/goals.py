"""Each goal beside what was measured: figure, spread, what the limit of it is, and how far it is off."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.overload import is_valid
from benchmarks.probes import LIMIT_MS
from benchmarks.rounds import Results, quiet, ratio
from benchmarks.stacks import FASTAPI, FIRST_STUDY, LIMIT, OURS, TUNED, TUNED_LIMIT
from benchmarks.stored import NOTHING

HEAD = "| what | goal | measured | spread | limit | margin | |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Attributes:
        name: What is measured.
        asked: The goal.
        figures: Of each round that counts; empty where nothing was measured.
        limit: What could be reached at best, where that is known.
        most: The figure may be at most the goal; else it is to be at least that.
        unit: Of all of them.
        digits: After the point.
    """

    name: str
    asked: float
    figures: Sequence[float]
    limit: float | None = None
    most: bool = False
    unit: str = ""
    digits: int = 2

    def row(self) -> str:
        """As Markdown has it."""
        asked = f"{'≤' if self.most else '≥'} {self.asked:g}{self.unit}"
        if not self.figures:
            return f"| {self.name} | {asked} | not measured | | | | |"
        figure = median(self.figures)
        off = (self.asked - figure if self.most else figure - self.asked) / self.asked if self.asked else -figure
        met = "met" if off >= 0 else "missed"
        distance = f"{100 * off:+.0f} %" if self.asked else "-"
        spread = f"{self._text(min(self.figures))} to {self._text(max(self.figures))}" if len(self.figures) > 1 else "-"
        limit = "-" if self.limit is None else self._text(self.limit)
        cells = (self.name, asked, f"**{self._text(figure)}{self.unit}**", spread, limit, distance, met)
        return "| " + " | ".join(cells) + " |"

    def _text(self, value: float) -> str:
        return f"{value:.{self.digits}f}"


def table(instance: Results, load: Results) -> str:
    """All goals, as a Markdown table."""
    goals = [*_throughput(load), *_larger(load), *_overload(load), *_memory(load), *_stored(load), *_one(instance)]
    return "\n".join([HEAD, *(goal.row() for goal in goals)])


def best_other(rounds: Sequence[Results]) -> str:
    """The reference stack with the highest median."""
    mine = (LIMIT, TUNED_LIMIT, OURS, TUNED)
    names = [name for name in rounds[0]["of"] if name not in mine]
    return str(max(names, key=lambda name: median(one["of"][name]["per_s"] for one in rounds)))


def _throughput(load: Results) -> Iterator[Goal]:
    rounds = quiet(load.get("stacks", {}).get("rounds", []))
    best = best_other(rounds) if rounds else "the best stack"
    where = "saturation, embedded model"
    for name, limit, asked in ((OURS, LIMIT, 1.08), (TUNED, TUNED_LIMIT, 1.25)):
        yield _over(rounds, f"{where}: {name} / best other ({best})", (name, best, limit), asked)
    yield _over(rounds, f"{where}: {OURS} / {FASTAPI}", (OURS, FASTAPI, LIMIT), 1.25)
    for name, limit in ((OURS, LIMIT), (TUNED, TUNED_LIMIT)):
        yield _over(rounds, f"{where}: {name} / its in-process limit", (name, limit, limit), 0.93)
    yield from _accuracy(load, "embedded")


def _larger(load: Results) -> Iterator[Goal]:
    rounds = quiet(load.get("yolov8n", {}).get("rounds", []))
    where = "saturation, YOLOv8n at 640"
    yield _over(rounds, f"{where}: {TUNED} / {FASTAPI} in FP32", (TUNED, FASTAPI, TUNED_LIMIT), 3)
    yield _over(rounds, f"{where}: {TUNED} / {FIRST_STUDY}", (TUNED, FIRST_STUDY, TUNED_LIMIT), 4)
    for name, limit in ((OURS, LIMIT), (TUNED, TUNED_LIMIT)):
        yield _over(rounds, f"{where}: {name} / its in-process limit", (name, limit, limit), 0.93)
    yield from _accuracy(load, "yolov8n")


def _over(rounds: Sequence[Results], name: str, who: tuple[str, str, str], asked: float) -> Goal:
    above, below, limit = who
    limits = ratio(rounds, limit, below)
    return Goal(name, asked, ratio(rounds, above, below), median(limits) if limits else None)


def _accuracy(load: Results, model: str) -> Iterator[Goal]:
    found = load.get("tuned_accuracy", {}).get(model)
    lost = [] if found is None else [max(0.0, found["ap"] - found["tuned_ap"])]
    yield Goal(f"AP that tuning costs, {model}", 0.005, lost, 0.0, most=True, digits=4)


def _overload(load: Results) -> Iterator[Goal]:
    for name, where in (("overload", "on shared CPUs"), ("overload_pinned", "on a CPU of its own")):
        rounds = [one for one in load.get(name, {}).get("rounds", []) if is_valid(one)]
        for factor, asked in ((3, 0.90), (10, 0.75)):
            own = [one for one in rounds if one["factor"] == factor]
            goodput = [one["good_per_s"] / one["capacity_per_s"] for one in own]
            refused = [one["refused_ms"]["p99"] for one in own if one["refused_ms"]]
            yield Goal(f"overload {factor}x, {where}: goodput / capacity", asked, goodput, 1.0)
            yield Goal(f"overload {factor}x, {where}: refusals, p99", 100, refused, most=True, unit=" ms", digits=0)
        broken = [float(_broken(one)) for one in rounds]
        yield Goal(f"overload, {where}: time-outs, 5xx and lost connections", 0, broken, 0.0, most=True, digits=0)
        for path, milliseconds in probe_ms(rounds).items():
            p99 = [_p99(milliseconds)] if milliseconds else []
            yield Goal(f"overload, {where}: {path}, p99", LIMIT_MS, p99, most=True, unit=" ms", digits=1)
    halves = [one for one in load.get("half", {}).get("rounds", []) if is_valid(one)]
    ratios = [one["answered_ms"]["p99"] / one["answered_ms"]["p50"] for one in halves]
    yield Goal("half the capacity: p99 / p50", 2.5, ratios, 1.0, most=True)


def _broken(one: Results) -> int:
    return sum(count for result, count in one["results"].items() if result not in ("200", "429"))


def probe_ms(rounds: Sequence[Results]) -> dict[str, list[float]]:
    """Milliseconds of all probes of all rounds, by path."""
    found: dict[str, list[float]] = {}
    for one in rounds:
        for path, answers in one["probes"].items():
            found.setdefault(path, []).extend(answers["ms"])
    return found


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


def _memory(load: Results) -> Iterator[Goal]:
    soak = load.get("soak", {})
    growth = [100 * soak["growth"]] if "growth" in soak else []
    minutes = f"{soak['minutes']:g} minutes" if soak else "10 minutes"
    yield Goal(f"memory growth over {minutes} at capacity", 5, growth, 0.0, most=True, unit=" %", digits=1)


def _stored(load: Results) -> Iterator[Goal]:
    rounds = quiet(load.get("stored", {}).get("rounds", []))
    names = [name for name in rounds[0]["of"] if name != NOTHING] if rounds else ["sync", "async"]
    for name in sorted(names, key=lambda name: (name.endswith("async"), name)):
        cost = [100 * (1 - value) for value in ratio(rounds, name, NOTHING)]
        asked = 3 if name.endswith("async") else 10
        yield Goal(f"throughput that storing costs, {name}", asked, cost, 0.0, most=True, unit=" %", digits=1)


def _one(instance: Results) -> Iterator[Goal]:
    rounds = instance.get("latency", {}).get("rounds", [])
    ratios = [one["p50_ms"] / one["in_process_ms"] for one in rounds]
    yield Goal("10 requests/s: p50 / in-process time of one picture", 1.2, ratios, 1.0, most=True)
    cold = instance.get("cold_start", {})
    parts = sum(cold["split"].values()) if cold else None
    yield Goal("cold start to the first good answer", 0.6, cold.get("first_answer_s", []), parts, most=True, unit=" s")
    yield Goal("resident memory then", 200, cold.get("rss_mb", []), most=True, unit=" MB", digits=0)
