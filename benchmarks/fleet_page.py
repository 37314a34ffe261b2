"""Renders benchmarks/fleet.md: what stands before instances costs, and how fast they start."""

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.fleet_front import ACTIVATOR, BOTH, DIRECT, ENVOY, MANY
from benchmarks.fleet_start import CPUS, FORKED, FRESH, name_of
from benchmarks.fleet_whole import ALONE, FLEET
from benchmarks.goals import HEAD, Goal
from benchmarks.page import machine_table
from benchmarks.rounds import Results, account, middle, quiet, ratio, shown

_WAYS = (DIRECT, ENVOY, ACTIVATOR, BOTH)
_KINDS = [name_of(how, cpus) for how in (FORKED, FRESH) for cpus in CPUS]


def render(fleet: Results) -> str:
    """The whole page."""
    parts = [f"# Fleet\n\nTaken {fleet['date']}.\n\n{machine_table(fleet)}\n\n## Goals\n"]
    parts.append("\n".join([HEAD, *(goal.row() for goal in _goals(fleet))]) + "\n")
    if "fleet_front" in fleet:
        parts.append(_front(fleet["fleet_front"]["rounds"]))
    if "fleet_start" in fleet:
        parts.append(_start(fleet["fleet_start"]["rounds"]))
    if "fleet_rolling" in fleet:
        parts.append(_whole(fleet))
    return "\n".join(parts)


def _goals(fleet: Results) -> Iterator[Goal]:
    fronts = quiet(fleet.get("fleet_front", {}).get("rounds", []))
    yield Goal("Envoy: added p50", 1.0, _added_ms(fronts, ENVOY), 0.0, most=True, unit=" ms")
    starts = quiet(fleet.get("fleet_start", {}).get("rounds", []))
    for how, asked in ((FORKED, 0.15), (FRESH, 1.0)):
        name = name_of(how, 1.0)
        seconds = [one["of"][name]["first_answer_s"] for one in starts]
        yield Goal(f"decision to first good answer, {name}", asked, seconds, most=True, unit=" s", digits=3)

    whole = quiet(fleet.get("fleet_throughput", {}).get("rounds", []))
    yield Goal("two instances behind Envoy / their sum alone", 0.92, ratio(whole, FLEET, ALONE), 1.0)
    for name, figure in fleet.get("fleet_idle", {}).items():
        if name.endswith("_percent"):
            yield Goal(f"idle CPU of one, {name.removesuffix('_percent')}", 1.0, [figure], most=True, unit=" %")


def _added_ms(rounds: Sequence[Results], name: str) -> list[float]:
    return [one["of"][name]["p50_ms"] - one["of"][DIRECT]["p50_ms"] for one in rounds]


def _front(rounds: Sequence[Results]) -> str:
    taken = shown(rounds)
    rows = "\n".join(
        f"| {name} | {median(one['of'][name]['p50_ms'] for one in taken):.2f} | {middle(_added_ms(taken, name))} "
        f"| {median(one['of'][name]['per_s'] for one in taken):.0f} | {middle(ratio(taken, name, DIRECT))} |"
        for name in _WAYS
    )
    return f"""## The way to an instance

An instance that answers at once, photographs as bodies; {account(rounds)}. One caller for the latency, {MANY} for the
throughput, whose ceiling is that of one thread of the front on CPUs shared with generator and instance.

| way | p50, ms | added p50, ms | requests/s | of the direct way |
|---|---|---|---|---|
{rows}
"""


def _start(rounds: Sequence[Results]) -> str:
    taken = shown(rounds)
    rows = "\n".join(
        f"| {name} | {middle([one['of'][name]['ready_s'] for one in taken], 3)} "
        f"| {middle([one['of'][name]['first_answer_s'] for one in taken], 3)} "
        f"| {'yes' if all(one['of'][name]['enforced'] for one in taken) else 'no'} |"
        for name in _KINDS
    )
    return f"""## From the decision to the first good answer

{account(rounds)[0].upper()}{account(rounds)[1:]}. Median and spread, in seconds.

| start | ready | first good answer | held to its CPU |
|---|---|---|---|
{rows}
"""


def _whole(fleet: Results) -> str:
    rolling = fleet["fleet_rolling"]
    answered = ", ".join(f"{count} x {status}" for status, count in sorted(rolling["statuses"].items()))
    often = rolling["rounds_of_changes"]
    return f"""## While instances come and go

A fleet of four, eight callers who ask again as soon as they are answered; meanwhile, {often} times over, it is scaled
down to two, up to four, and each instance is replaced by a new one. Answers: {answered}.
"""
