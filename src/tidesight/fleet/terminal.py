"""A fleet in a terminal: what `tidesight up --tui` shows all the time, and `tidesight status` once."""

from collections.abc import Callable, Iterator
from typing import Protocol

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tidesight.fleet.figures import clock, count, counted, dollars, duration, latency, memory
from tidesight.fleet.snapshot import BackOffView, CostView, DecisionView, InstanceView, Snapshot

_STATES = {  # a sign for each, since colour is never the only one
    "ready": ("●", "green"),
    "starting": ("◔", "cyan"),
    "draining": ("◑", "yellow"),
    "crashed": ("✕", "bold red"),
    "stopped": ("○", "dim"),
}
_ORDER = list(_STATES)
_PATHS = {"instances": "straight to the instances", "activator": "by way of the activator"}


class Watched(Protocol):
    """A fleet that is looked at."""

    def snapshot(self) -> Snapshot:
        """The latest."""
        ...

    async def changed(self) -> None:
        """Return when there is a newer one."""
        ...


async def watch(fleet: Watched, console: Console) -> None:
    """Show a fleet until cancelled; what it looked like in the end stays on the terminal."""
    with Live(_fitting(fleet.snapshot(), console), console=console, auto_refresh=False) as live:
        while True:
            await fleet.changed()
            live.update(_fitting(fleet.snapshot(), console), refresh=True)


def _fitting(snapshot: Snapshot, console: Console) -> RenderableType:
    """With as many lines as the terminal has, so that it can be drawn again in place."""
    fixed = 13 + len(snapshot.back_offs)
    room = max(4, console.size.height - fixed)
    instances = min(len(snapshot.instances), max(3, room - 4))
    return fleet_view(snapshot, instances, max(0, min(8, room - instances)))


def fleet_view(snapshot: Snapshot, most_instances: int = 50, most_decisions: int = 5) -> RenderableType:
    """A fleet at one moment: what runs, the figures, instances, places that wait, decisions."""
    parts: list[RenderableType] = [_title(snapshot), _figures(snapshot), _Instances(snapshot.instances, most_instances)]
    parts += [_back_off(one) for one in snapshot.back_offs]
    if snapshot.decisions and most_decisions:
        parts.append(_decisions(snapshot.decisions[:most_decisions]))
    return Group(*parts)


def _title(snapshot: Snapshot) -> Text:
    text = Text(overflow="fold")
    text.append(snapshot.platform, "bold")
    text.append(f", instances of {snapshot.instance_class}, policy: {snapshot.policy}, at ")
    text.append(snapshot.url, "bold")
    text.append(f", for {duration(snapshot.at_s)}\n")
    text.append(snapshot.enforced, "dim")
    return text


def _figures(snapshot: Snapshot) -> Panel:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for row in (_capacity(snapshot), *_traffic(snapshot), _cost(snapshot.cost)):
        table.add_row(*map(Text, row))
    return Panel(table, box=box.ROUNDED, border_style="dim")


def _capacity(snapshot: Snapshot) -> tuple[str, str, str]:
    ready = sum(instance.state == "ready" for instance in snapshot.instances)
    bounds = f"{snapshot.least} or more" if snapshot.most is None else f"{snapshot.least} to {snapshot.most}"
    who = "the policy decides" if snapshot.pinned is None else f"pinned to {snapshot.pinned} by hand"
    return "ready", f"{ready} of {snapshot.wanted}", f"{bounds} allowed; {who}"


def _traffic(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    front = snapshot.front
    rates = ", ".join(f"{kind} {count(rate)}/s" for kind, rate in sorted(front.answered_per_s.items()) if rate)
    yield "requests", f"{count(front.offered_per_s)}/s", rates or "none answered now"
    percentiles = f"p50 {latency(front.p50_ms)}, p95 {latency(front.p95_ms)}, p99 {latency(front.p99_ms)}"
    yield "latency", latency(front.p95_ms), percentiles
    oldest = f", the first for {duration(front.held_oldest_s)}" if front.held else ""
    path = _PATHS.get(front.path, front.path)
    yield "held", f"{front.held:,}", f"of {counted(front.active, 'request')} inside{oldest}; they go {path}"
    answered = ", ".join(f"{kind} {number:,}" for kind, number in sorted(front.answered.items()) if number) or "none"
    more = f"; {front.retries:,} tried again" if front.retries else ""
    more += f"; Envoy restarted {counted(front.restarts, 'time')}" if front.restarts else ""
    yield "answered", f"{sum(front.answered.values()):,}", f"{answered}{more}"


def _cost(cost: CostView | None) -> tuple[str, str, str]:
    if cost is None:
        return "cost", "-", "no prices for this platform"
    each = "" if cost.usd_per_thousand is None else f", {dollars(cost.usd_per_thousand)} for 1000 good answers"
    return "cost", dollars(cost.usd), f"{dollars(cost.usd_per_hour)}/h now{each}; prices of {cost.prices_of}"


class _Instances:
    """The table of instances, as wide as there is room."""

    def __init__(self, instances: tuple[InstanceView, ...], most: int) -> None:
        self._shown = sorted(instances, key=lambda one: (_ORDER.index(one.state), one.slot))[:most]
        self._left = len(instances) - len(self._shown)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        columns = [name for name in _COLUMNS if options.max_width >= _NEEDS.get(name, 0)]
        table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
        table.add_column("state", no_wrap=True)
        table.add_column("instance", no_wrap=True, overflow="ellipsis")
        for name in columns:
            table.add_column(name, justify="right", no_wrap=True)
        if wide:
            table.add_column("why", ratio=1, overflow="ellipsis", no_wrap=True)
        for one in self._shown:
            sign, style = _STATES[one.state]
            cells = [Text(f"{sign} {one.state}", style), Text(one.id), *(Text(_COLUMNS[name](one)) for name in columns)]
            table.add_row(*cells, *([Text(one.reason, "dim")] if wide else []))
        yield table
        if not wide:
            yield from (Text(f"{one.id}: {one.reason}", "dim") for one in self._shown if one.state != "ready")
        if self._left > 0:
            yield Text(f"and {self._left} more", "dim")


def _start(one: InstanceView) -> str:
    took = "" if one.start_s is None else latency(1000 * one.start_s)
    return ", ".join(filter(None, (took, one.how)))


_WIDE = 110
_NEEDS = {"queued": _WIDE, "answers/s": _WIDE, "inside": 70, "start-up": 80}  # of characters across
_COLUMNS: dict[str, Callable[[InstanceView], str]] = {
    "for": lambda one: duration(one.since_s),
    "CPU": lambda one: count(one.cpu),
    "memory": lambda one: memory(one.memory_bytes),
    "inside": lambda one: count(one.in_flight),
    "queued": lambda one: count(one.queued),
    "answers/s": lambda one: count(one.answered_per_s),
    "start-up": _start,
}


def _back_off(one: BackOffView) -> Text:
    crashes = "once" if one.crashes == 1 else f"{one.crashes} times in a row"
    text = f"! place {one.slot} crashed {crashes}: {one.why}; next try in {duration(one.retry_in_s)}"
    return Text(text, "red", overflow="fold")


def _decisions(decisions: tuple[DecisionView, ...]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
    for one in decisions:
        sign = "?" if not one.valid else "▲" if one.desired > one.current else "▼" if one.desired < one.current else "="
        change = f"{one.current} -> {one.desired}" if one.valid else "undecided"
        reason = Text(one.reason)
        if one.detail:
            reason.append(f"  {one.detail}", "dim")
        table.add_row(Text(clock(one.at_s), "dim"), Text(f"{sign} {change}", "bold"), reason)
    return table
