# ruff: noqa: E501 - prose
"""Renders benchmarks/overload.md from the results, so that no figure is typed by hand."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.generator import OBJECTIVE_S, PATIENCE_S
from benchmarks.overload import LAG_LIMIT_MS
from benchmarks.stacks import LIMIT, OURS

Results = dict[str, Any]


def render(found: Results) -> str:
    """The whole page."""
    sections = [_head(found)]
    for name, section in (
        ("stacks", _stacks),
        ("overload", _overload),
        ("overload_pinned", _pinned),
        ("references", _references),
        ("half", _half),
        ("soak", _soak),
    ):
        if name in found and "skipped" not in found[name]:
            sections.append(section(found[name]))
    return "\n".join(sections)


def _head(found: Results) -> str:
    machine = "\n".join(f"| {name} | {value} |" for name, value in found["machine"].items())
    return f"""# Against other stacks, and under overload

Rendered by `make bench` from `results/overload.json` ({found["date"]}). Ratios of figures taken in the same run, in interleaved
rounds, are the point; absolute figures are this machine's.

| machine | |
|---|---|
{machine}

The job: a COCO128 photograph (JPEG) as base64 in JSON, boxes back as JSON; the embedded YOLOX-Nano at 416 px.
"""


def _stacks(data: Results) -> str:
    rounds = data["rounds"]
    names = [name for name in rounds[0] if name not in (LIMIT, OURS, "failures")]
    names.sort(key=lambda name: -median(one[name] for one in rounds))
    rows = []
    for name in (LIMIT, OURS, *names):
        ratios = [one[OURS] / one[name] for one in rounds]
        failures = sum(one["failures"].get(name, 0) for one in rounds)
        per_s = median(one[name] for one in rounds)
        rows.append(f"| {name} | {per_s:.1f} | {median(ratios):.2f} | {_spread(ratios)} | {failures} |")
    missing = "".join(
        f"\n{name} could not be run here: {package} is not installed." for name, package in data["missing"].items()
    )
    return f"""## Throughput at saturation

Goal: at least 1.08 times the best other stack, 1.25 times FastAPI, 0.93 of the in-process limit. Each stack in
`reference_stacks/` is written as its users write it, around the same file, ONNX Runtime with one thread a run, and the same pre-
and post-processing; all are up throughout, and asked in turn by {data["connections"]} connections that each ask again at once,
{data["requests_per_round"]} requests a round, {len(rounds)} rounds. The load generator runs on the same CPUs.{missing}

| stack | median, pictures/s | {OURS} / this, median of rounds | spread | failures |
|---|---|---|---|---|
{_lines(rows)}
"""


_COLUMNS = """| load | capacity/s | sent/s | good/s | good / capacity | late | answered p50/p99, ms | refused p50/p99, ms | from due p99, ms | time-outs | 5xx | other | lag p99, ms | generator CPUs |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def _overload(data: Results) -> str:
    return f"""## Overload

{_goodput(data["rounds"])}Goal: 0.90 at three times the capacity and 0.75 at ten times, refusals in a p99 of at most 100 ms, no time-outs, no 5xx.

Poisson arrivals (seeded) from a process of its own, at a multiple of the capacity, which is measured by a closed loop before and
after each round. **Good** is a 200 within {1000 * OBJECTIVE_S:.0f} ms of when the request was due; the instance knows that objective
(`--deadline-s {OBJECTIVE_S:g}`). Callers keep their connections, wait {PATIENCE_S:g} s, then close. A refused caller sends the rest of its body, without
`Expect: 100-continue`. Bodies: the 32 smallest pictures of COCO128, {data["body_bytes"] / 1000:.0f} kB a request in the mean. The generator shares the CPUs: what
it takes (last column) the instance lacks, though its capacity was measured with next to no generator. A round with
a send lag over {LAG_LIMIT_MS:.0f} ms in the p99 is marked invalid and not counted. **Refused** counts from when the connection was ready.

{_table(data["rounds"])}
"""


def _pinned(data: Results) -> str:
    return f"""## Overload, apart

{_goodput(data["rounds"])}The same, with the instance on one CPU (one worker) and the generator on the others, capacity included: neither takes from the other.

{_table(data["rounds"])}
"""


def _references(data: Results) -> str:
    rows = [_row(name, one) for name, one in data["stacks"].items()]
    return f"""## The other stacks at {data["factor"]:g} times their own capacity

One round each, as a control of the method: they have no objective to refuse by, and work for callers that have left.

{_COLUMNS}
{_lines(rows)}
"""


def _half(data: Results) -> str:
    valid = [one for one in data["rounds"] if _valid(one)]
    ratios = [one["answered_ms"]["p99"] / one["answered_ms"]["p50"] for one in valid]
    headline = (
        f"**p99 / p50: {median(ratios):.2f}** (median of {len(ratios)} rounds, {_spread(ratios)}; goal at most 2.5). "
        if ratios
        else ""
    )
    return f"""## Latency at half the capacity

{headline}Poisson arrivals, default settings, from when each request was due.

{_table(data["rounds"])}
"""


def _soak(data: Results) -> str:
    rss = data["rss_mb"]
    statuses = ", ".join(f"{status}: {count}" for status, count in data["statuses"].items())
    return f"""## Memory over {data["minutes"]:g} minutes at capacity

**Growth: {100 * data["growth"]:.1f} %** (linear fit after the first fifth; goal under 5 %). Resident {rss[0]:.0f} MB at first, {rss[-1]:.0f} MB at last, at most {max(rss):.0f} MB.
About three good requests (JSON, raw JPEG, annotated) to a bad one (cut-off JPEG, not JSON, not base64, not a picture, a PNG that claims
60000x60000 pixels, wrong options and types), and once a second a caller that leaves in the middle of its body.

Answers by status: {statuses}; left in the middle: {data["abandoned"]}.
"""


def _goodput(rounds: Sequence[Results]) -> str:
    lines = []
    for factor in sorted({one["factor"] for one in rounds}):
        ratios = [
            one["good_per_s"] / one["capacity_per_s"] for one in rounds if one["factor"] == factor and _valid(one)
        ]
        if ratios:
            lines.append(
                f"**Goodput / capacity at {factor:g} times the capacity: {median(ratios):.2f}** (median of {len(ratios)} rounds, {_spread(ratios)}).\n"
            )
    return "".join(lines)


def _table(rounds: Sequence[Results]) -> str:
    return _lines([_COLUMNS, *(_row(f"{one['factor']:g}x", one) for one in rounds)])


def _row(name: str, one: Results) -> str:
    results = one["results"]
    broken = sum(count for result, count in results.items() if result.startswith("5"))
    cells = (
        name if _valid(one) else f"{name} (invalid)",
        f"{one['capacity_per_s']:.1f}",
        f"{one['sent'] / one['seconds']:.1f}",
        f"{one['good_per_s']:.1f}",
        f"{one['good_per_s'] / one['capacity_per_s']:.2f}",
        one["late"],
        _pair(one["answered_ms"]),
        _pair(one["refused_ms"]),
        f"{one['refused_from_due_ms'].get('p99', 0):.0f}",
        results.get("timed out", 0),
        broken,
        ", ".join(f"{result}: {count}" for result, count in results.items() if _is_other(result)) or 0,
        f"{one['lag_ms']['p99']:.1f}",
        f"{one['generator_cpus']:.2f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _is_other(result: str) -> bool:
    return result not in ("200", "429", "timed out") and not result.startswith("5")


def _valid(one: Results) -> bool:
    return bool(one["lag_ms"]["p99"] <= LAG_LIMIT_MS)


def _pair(percentiles: dict[str, float]) -> str:
    return f"{percentiles['p50']:.0f} / {percentiles['p99']:.0f}" if percentiles else "-"


def _lines(rows: Sequence[str]) -> str:
    return "\n".join(rows)


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
