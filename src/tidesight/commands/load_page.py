"""What `tidesight load` shows: a line while it runs, a table at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tidesight.workload.outcome import PERCENTILES, Latencies
from tidesight.workload.scenario import Users

if TYPE_CHECKING:
    from tidesight.loadtest.max_rate import MaxRate, Try
    from tidesight.loadtest.plan import Load, Observer
    from tidesight.loadtest.plan import Progress as LoadProgress
    from tidesight.loadtest.recorder import LoadResult


@contextmanager
def progress(load: "Load") -> Iterator["Observer"]:
    """A bar on standard error while a load is sent."""
    columns = (TextColumn("sending"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=load.duration_s)

        def observe(now: "LoadProgress") -> None:
            outcome = now.outcome
            p99_s = outcome.latencies.percentile_s(99)
            words = f"{now.sent} sent, {now.in_flight} under way, {outcome.answered} answered"
            words += f", p99 {_ms(p99_s)} ms" if p99_s is not None else ""
            failed = outcome.sent - outcome.answered
            words += f", [red]{failed} not[/red]" if failed else ""
            bar.update(task, completed=min(now.elapsed_s, load.duration_s), description=words)

        yield observe


def print_result(load: "Load", result: "LoadResult", out: Path | None) -> None:
    """The table, and what to think of it."""
    console, outcome = Console(), result.outcome
    table = Table(box=box.SIMPLE, show_header=False, title=_title(load), title_justify="left")
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _rows(load, result):
        table.add_row(name, value)
    console.print(table, highlight=False)
    console.print(_latencies(outcome.latencies, result.lag), highlight=False)
    for reason in result.invalid:
        console.print(f"[red]Not valid:[/red] {escape(reason)}", highlight=False)
    if result.stopped:
        more = f"; {result.unsent} requests due were not sent" if result.unsent else ""
        console.print(f"[yellow]Ended early:[/yellow] {escape(result.stopped)}{more}", highlight=False)
    if result.truncated:
        console.print(f"[red]Rows are missing:[/red] {escape(result.truncated)}", highlight=False)
    if out is not None:
        console.print(f"Recorded into [bold]{escape(str(out))}[/bold]", highlight=False)


def _title(load: "Load") -> str:
    pattern = load.pattern
    if isinstance(pattern, Users):
        who = f"{pattern.users} users, {pattern.spawn_per_s:g}/s spawned, thinking {pattern.think_s:g} s"
    else:
        curve = pattern.curve(load.duration_s)
        who = f"{curve.expected / curve.duration_s:.4g}/s in the mean, {pattern.spacing} arrivals"
    mean_bytes = sum(len(body.data) for body in load.bodies) / len(load.bodies)
    return escape(f"{load.target.url}: {who}, {load.duration_s:g} s; bodies of {mean_bytes / 1000:.0f} kB")


def _rows(load: "Load", result: "LoadResult") -> Iterator[tuple[str, str]]:
    outcome = result.outcome
    yield "sent", _count(outcome.sent, outcome.seconds)
    yield "answered 2xx", _count(outcome.answered, outcome.seconds)
    share = f", {outcome.good / outcome.sent:.2%} of all" if outcome.sent else ""
    yield f"good, within {load.objective_s:g} s", _count(outcome.good, outcome.seconds) + share
    others = {status: count for status, count in sorted(outcome.statuses.items()) if not 200 <= status < 300}
    if others:
        yield "other answers", ", ".join(f"{count} x {status}" for status, count in others.items())
    if outcome.failures:
        yield "no answer", ", ".join(f"{count} {word}" for word, count in sorted(outcome.failures.items()))
    opened = f", {result.connections} connections opened" if result.connections else ""
    yield "generator", f"{result.cpu_ratio:.0%} of a core{opened}"


def _latencies(answers: Latencies, lag: Latencies) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("ms", "mean", *(f"p{percent:g}" for percent in PERCENTILES), "max"):
        table.add_column(column, justify="left" if column == "ms" else "right")
    for name, times in (("latency of 2xx", answers), ("send lag", lag)):
        table.add_row(name, _ms(times.mean_s), *(_ms(times.percentile_s(p)) for p in PERCENTILES), _ms(times.max_s))
    return table


def _count(number: int, seconds: float) -> str:
    return f"{number} ({number / seconds:.4g}/s)"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.1f}"


@contextmanager
def searching() -> Iterator[Callable[["Try"], None]]:
    """A line on standard error for each rate that was tried."""
    console = Console(stderr=True)
    with console.status("searching for the highest rate ..."):

        def tell(tried: "Try") -> None:
            console.print(f"{tried.rate_rps:9.1f}/s  {escape(tried.words())}", highlight=False)

        yield tell


def print_max_rate(load: "Load", found: "MaxRate") -> None:
    """What was found."""
    console = Console()
    bound = f"p{100 * found.percentile:g} within {load.objective_s:g} s"
    if found.rate_rps is None:
        console.print(f"No rate was shown to meet {bound}; the lowest tried was {found.lowest_rps:.3g}/s")
    else:
        console.print(
            f"[bold]{found.rate_rps:.4g}/s[/bold] is the highest Poisson rate shown to meet {bound},"
            f" with {found.confidence:.0%} confidence",
            highlight=False,
        )
    for reason in found.doubts:
        console.print(f"[yellow]Mind:[/yellow] {escape(reason)}", highlight=False)
