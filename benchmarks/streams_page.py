"""Renders benchmarks/streams.md: a video over many small instances."""

from collections.abc import Iterator
from statistics import median

from benchmarks.goals import HEAD, Goal
from benchmarks.page import machine_table
from benchmarks.rounds import Results, account, middle, quiet, ratio, shown

_PART = 0.9


def render(streams: Results) -> str:
    """The whole page."""
    parts = [f"# Videos over a fleet\n\nTaken {streams['date']}.\n\n{machine_table(streams)}\n\n## Goals\n"]
    parts.append("\n".join([HEAD, *(goal.row() for goal in _goals(streams))]) + "\n")
    if "streams_speedup" in streams:
        parts.append(_speedup(streams["streams_speedup"]))
    if "streams_killed" in streams:
        parts.append(_killed(streams["streams_killed"]))
    return "\n".join(parts)


def _goals(streams: Results) -> Iterator[Goal]:
    rounds = quiet(streams.get("streams_speedup", {}).get("rounds", []))
    for count in range(2, 7):
        figures = ratio(rounds, str(count), "1")
        yield Goal(f"frames/s, {count} instances / one", _PART * count, figures, float(count))
    killed = streams.get("streams_killed", {})
    differing = [float(max(one["lines"], killed["frames"]) - one["same"]) for one in killed.get("runs", [])]
    yield Goal("lines unlike a serial run's, instances killed at random", 0.0, differing, 0.0, most=True, digits=0)


def _speedup(found: Results) -> str:
    taken = shown(found["rounds"])
    rows = "\n".join(
        f"| {name} | {middle([one['of'][name]['per_s'] for one in taken], 1)} | {middle(ratio(taken, name, '1'))} "
        f"| {median(ratio(taken, name, '1')) / int(name):.2f} | {max(one['of'][name]['failed'] for one in taken)} "
        f"| {'yes' if all(one['of'][name]['enforced'] for one in taken) else 'no'} |"
        for name in sorted(taken[0]["of"], key=int)
    )
    return f"""## Speed-up

`tidesight video` over a fleet behind Envoy, each instance with {found["cpu"]:g} CPU; {found["frames_each"]} frames for
each instance; {account(found["rounds"])}. Client, Envoy and instances share the machine.

| instances | frames/s | over one | of that many | frames failed | held to its CPU |
|---|---|---|---|---|---|
{rows}
"""


def _killed(found: Results) -> str:
    rows = "\n".join(f"| {one['killed']} | {one['lines']} | {one['same']} | {one['failed']} |" for one in found["runs"])
    return f"""## While instances are killed

{found["frames"]} frames over {found["instances"]} instances, of which one that is ready is killed (SIGKILL) every
one to four seconds. Each line is held against the line in the same place of a run that sent one frame after the other.

| killed | lines | the same in the same place | failed |
|---|---|---|---|
{rows}
"""
