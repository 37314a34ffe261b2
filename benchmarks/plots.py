"""The plots of results/load.json, as SVG files beside the pages."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from benchmarks.chart import Axes, Line, draw
from benchmarks.generator import OBJECTIVE_S
from benchmarks.overload import is_valid
from benchmarks.rounds import Results
from benchmarks.stacks import OURS

_LEAST_MS = 0.1  # on a logarithmic axis


def render(found: Results) -> dict[str, str]:
    """File names, in the folder of the pages, and what goes into them."""
    files = {}
    if rounds := list(found.get("curve", {}).get("rounds", [])):
        rounds += [{**one, "stack": OURS} for one in found.get("overload", {}).get("rounds", [])]  # the same, longer
        files["plots/goodput.svg"] = draw(_GOODPUT, _goodput(rounds))
        files["plots/answered.svg"] = draw(_ANSWERED, _latency(rounds))
        if refused := _refusals(rounds):
            files["plots/refused.svg"] = draw(_REFUSED, refused)
    if "rss_mb" in found.get("soak", {}):
        points = [(seconds / 60, megabytes) for seconds, megabytes in found["soak"]["rss_mb"]]
        files["plots/soak.svg"] = draw(_SOAK, [Line("resident memory", points)])
    return files


_FACTOR = "offered / own capacity"
_GOODPUT = Axes(
    f"Goodput: answered within {1000 * OBJECTIVE_S:.0f} ms",
    _FACTOR,
    "good / own capacity",
    log_x=True,
    goal=(1, "capacity"),
)
_ANSWERED = Axes(
    "Latency of the answers, p99",
    _FACTOR,
    "ms from when due",
    log_x=True,
    log_y=True,
    goal=(1000 * OBJECTIVE_S, "objective"),
)
_REFUSED = Axes("Latency of a refusal", _FACTOR, "ms from when sent", log_x=True, goal=(100, "goal for p99"))
_SOAK = Axes("Memory of an instance at capacity", "minutes", "MB resident")


def _by_stack(rounds: list[Results]) -> dict[str, list[Results]]:
    names = sorted({one["stack"] for one in rounds}, key=lambda name: (name != OURS, name))
    valid = [one for one in rounds if is_valid(one)]
    return {name: [one for one in valid if one["stack"] == name] for name in names}


def _line(name: str, points: Iterable[tuple[float, float]]) -> list[Line]:
    """A line through the median at each factor; none where there are no points."""
    at = defaultdict(list)
    for factor, value in points:
        at[factor].append(value)
    return [Line(name, [(factor, median(values)) for factor, values in sorted(at.items())])] if at else []


def _goodput(rounds: list[Results]) -> list[Line]:
    lines = []
    for name, own in _by_stack(rounds).items():
        lines += _line(name, ((one["factor"], one["good_per_s"] / one["capacity_per_s"]) for one in own))
    return lines


def _latency(rounds: list[Results]) -> list[Line]:
    lines = []
    for name, own in _by_stack(rounds).items():
        lines += _line(name, ((r["factor"], max(_LEAST_MS, r["answered_ms"]["p99"])) for r in own if r["answered_ms"]))
    return lines


def _refusals(rounds: list[Results]) -> list[Line]:
    """Those of the stacks that refuse at all."""
    lines = []
    for name, own in _by_stack(rounds).items():
        for quantile in ("p50", "p99"):
            points = ((r["factor"], r["refused_ms"][quantile]) for r in own if r["refused_ms"])
            lines += _line(f"{name}, {quantile}", points)
    return lines
