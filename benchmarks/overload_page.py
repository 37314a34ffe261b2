# ruff: noqa: E501 - prose
"""Renders benchmarks/overload.md from the results, so that no figure is typed by hand."""

from collections.abc import Sequence
from statistics import median

from benchmarks.cpu import OTHERS_LIMIT_CPUS
from benchmarks.generator import OBJECTIVE_S, PATIENCE_S
from benchmarks.goals import probe_ms
from benchmarks.overload import LAG_LIMIT_MS, is_valid
from benchmarks.page import machine_table
from benchmarks.probes import LIMIT_MS, PERIOD_S
from benchmarks.rounds import Results, spread
from benchmarks.stacks import OURS


def render(found: Results) -> str:
    """The whole page."""
    sections = [_head(found)]
    for name, section in (
        ("overload", _overload),
        ("overload_pinned", _pinned),
        ("curve", _curve),
        ("half", _half),
        ("soak", _soak),
    ):
        if name in found and "skipped" not in found[name]:
            sections.append(section(found[name]))
    return "\n".join(sections)


def _head(found: Results) -> str:
    return f"""# Under overload

Rendered from `results/load.json` ({found["date"]}); how to take it again is in the [overview](README.md). Ratios of figures taken in
the same run are the point; absolute figures are this machine's.

{machine_table(found)}

The job: a COCO128 photograph (JPEG) as base64 in JSON, boxes back as JSON; the embedded YOLOX-Nano at 416 px.
"""


_COLUMNS = """| load | capacity/s | sent/s | good/s | good / capacity | late | answered p50/p99, ms | refused p50/p99, ms | from due p99, ms | time-outs | 5xx | other | lag p99, ms | CPUs: server | generator | others |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def _overload(data: Results) -> str:
    return f"""## Overload

{_goodput(data["rounds"])}Goal: 0.90 at three times the capacity and 0.75 at ten times, refusals in a p99 of at most 100 ms, no time-outs, no 5xx.

Poisson arrivals (seeded) from a process of its own, at a multiple of the capacity, which is measured by a closed loop before and
after each round. **Good** is a 200 within {1000 * OBJECTIVE_S:.0f} ms of when the request was due; the instance knows that objective
(`--deadline-s {OBJECTIVE_S:g}`). Callers keep their connections, wait {PATIENCE_S:g} s, then close. A refused caller sends the rest of its body, without
`Expect: 100-continue`. Bodies: the 32 smallest pictures of COCO128, {data["body_bytes"] / 1000:.0f} kB in the mean. The generator shares the CPUs: what
it takes the instance lacks, though its capacity was measured with next to no generator. A round is marked invalid and not counted where
the send lag's p99 is over {LAG_LIMIT_MS:.0f} ms or other processes took more than {OTHERS_LIMIT_CPUS:g} CPUs. **Refused** counts from when the connection was ready.

{_table(data["rounds"])}

{_probes(data["rounds"])}
"""


def _pinned(data: Results) -> str:
    return f"""## Overload, apart

{_goodput(data["rounds"])}The same, with the instance on one CPU (one worker) and the generator on the others, capacity included: neither takes from the other.

{_table(data["rounds"])}

{_probes(data["rounds"])}
"""


def _probes(rounds: Sequence[Results]) -> str:
    counted = [one for one in rounds if is_valid(one)] or rounds
    failed = {path: sum(one["probes"][path]["failed"] for one in counted) for path in counted[0]["probes"]}
    rows = []
    for path, values in probe_ms(counted).items():
        ordered = sorted(values)
        p50, p99 = (ordered[int(q * (len(ordered) - 1))] for q in (0.5, 0.99))
        cells = (path, len(ordered), f"{p50:.1f}", f"{p99:.1f}", f"{ordered[-1]:.1f}", failed[path])
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return f"""What an orchestrator sees meanwhile: a probe every {1000 * PERIOD_S:.0f} ms for each path, over a new connection, from a process beside the generator. Goal: {LIMIT_MS:.0f} ms.

| probe | times | p50, ms | p99, ms | most, ms | failed |
|---|---|---|---|---|---|
{_lines(rows)}"""


def _curve(data: Results) -> str:
    rounds = sorted(data["rounds"], key=lambda one: (one["stack"] != OURS, one["stack"], one["factor"]))
    rows = [_row(f"{one['stack']}, {one['factor']:g}x", one) for one in rounds]
    missing = "".join(f" {name} is left out: {package} is not installed." for name, package in data["missing"].items())
    refusing = sorted({one["stack"] for one in rounds if one["refused_ms"]})
    refused = "![Refusals](plots/refused.svg)" if any(is_valid(one) and one["refused_ms"] for one in rounds) else ""
    return f"""## Goodput against offered load

Each stack under multiples of its own capacity, started afresh for each ({data["seconds"]:g} s that count). Stacks that refuse: {", ".join(refusing) or "none"}; the others
have no objective to refuse by, queue, and work for callers that have left. The plots have the medians of the valid rounds, for
{OURS} those of the overload above too.{missing}

![Goodput](plots/goodput.svg)
![Latency of answers](plots/answered.svg)
{refused}

{_COLUMNS}
{_lines(rows)}
"""


def _half(data: Results) -> str:
    valid = [one for one in data["rounds"] if is_valid(one)]
    ratios = [one["answered_ms"]["p99"] / one["answered_ms"]["p50"] for one in valid]
    headline = (
        f"**p99 / p50: {median(ratios):.2f}** (median of {len(ratios)} rounds, {spread(ratios)}; goal at most 2.5). "
        if ratios
        else ""
    )
    return f"""## Latency at half the capacity

{headline}Poisson arrivals, default settings, from when each request was due.

{_table(data["rounds"])}
"""


def _soak(data: Results) -> str:
    rss = [megabytes for _, megabytes in data["rss_mb"]]
    statuses = ", ".join(f"{status}: {count}" for status, count in data["statuses"].items())
    return f"""## Memory over {data["minutes"]:g} minutes at capacity

**Growth: {100 * data["growth"]:.1f} %** (linear fit after the first fifth; goal under 5 %). Resident {rss[0]:.0f} MB at first, {rss[-1]:.0f} MB at last, at most {max(rss):.0f} MB.
About three good requests (JSON, raw JPEG, annotated) to a bad one (cut-off JPEG, not JSON, not base64, not a picture, a PNG that claims
60000x60000 pixels, wrong options and types), and once a second a caller that leaves in the middle of its body.

![Memory](plots/soak.svg)

Answers by status: {statuses}; left in the middle: {data["abandoned"]}.
"""


def _goodput(rounds: Sequence[Results]) -> str:
    lines = []
    for factor in sorted({one["factor"] for one in rounds}):
        ratios = [
            one["good_per_s"] / one["capacity_per_s"] for one in rounds if one["factor"] == factor and is_valid(one)
        ]
        if ratios:
            lines.append(
                f"**Goodput / capacity at {factor:g} times the capacity: {median(ratios):.2f}** (median of {len(ratios)} rounds, {spread(ratios)}).\n"
            )
    return "".join(lines)


def _table(rounds: Sequence[Results]) -> str:
    return _lines([_COLUMNS, *(_row(f"{one['factor']:g}x", one) for one in rounds)])


def _row(name: str, one: Results) -> str:
    results = one["results"]
    broken = sum(count for result, count in results.items() if result.startswith("5"))
    cells = (
        name if is_valid(one) else f"{name} (invalid)",
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
        f"{one['server_cpus']:.2f}",
        f"{one['generator_cpus']:.2f}",
        f"{one['others_cpus']:.2f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _is_other(result: str) -> bool:
    return result not in ("200", "429", "timed out") and not result.startswith("5")


def _pair(percentiles: dict[str, float]) -> str:
    return f"{percentiles['p50']:.0f} / {percentiles['p99']:.0f}" if percentiles else "-"


def _lines(rows: Sequence[str]) -> str:
    return "\n".join(rows)
