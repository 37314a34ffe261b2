"""What `tidesight bench` shows: what happens while it runs, and at the end a table of what came of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tidesight.errors import TidesightError

if TYPE_CHECKING:
    from tidesight.experiments.plan import Experiment, Turn
    from tidesight.experiments.run import Done, Ended, Tell
    from tidesight.loadtest.plan import Progress as LoadProgress

_AROUND_S = 6.0  # a fleet's start and end, and two calibrations
_Figures = list[Mapping[str, Any]]


@contextmanager
def progress(experiment: "Experiment", console: Console | None = None) -> Iterator["Tell"]:
    """A bar for the whole on standard error; what happens; a line for each load."""
    turns, scenario = list(experiment.turns()), experiment.scenario
    each_s = scenario.duration_s + scenario.tail_s + _AROUND_S
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("so far, about"),
        TimeRemainingColumn(elapsed_when_finished=True), TextColumn("left"),
    )  # fmt: skip
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(scenario.name), total=each_s * len(turns))
        numbers = {(turn.arm.name, turn.repeat): number for number, turn in enumerate(turns)}
        told: list[str] = []

        def tell(turn: "Turn", what: str, load: "LoadProgress | None") -> None:
            number = numbers[turn.arm.name, turn.repeat]
            where = f"{scenario.name} {number + 1}/{len(turns)} [bold]{escape(turn.arm.name)}[/bold]"
            within_s = 0.0 if load is None else min(load.elapsed_s, scenario.duration_s) + _AROUND_S / 2
            past_s = max(bar.tasks[task].completed, number * each_s + within_s)
            bar.update(task, completed=past_s, description=f"{where}: {what}{_said(load)}")
            line = f"{number + 1}/{len(turns)} {turn.arm.name}, repeat {turn.repeat}: {what}"
            if load is None and line not in told[-1:]:
                told.append(line)
                if not bar.console.is_terminal:  # a log: no bar, but a line for each step
                    bar.console.print(f"{scenario.name} {line}", highlight=False, markup=False)

        yield tell


def _said(load: "LoadProgress | None") -> str:
    if load is None:
        return ""
    outcome = load.outcome
    failed = load.sent - load.in_flight - outcome.answered
    return f" {load.sent}, {outcome.answered} answered" + (f", [red]{failed} not[/red]" if failed else "")


def present(experiment: "Experiment", ended: "Ended", folder: Path, as_json: bool) -> None:
    """What came of an experiment: figures, and where it is recorded."""
    console = Console(stderr=as_json)
    if not as_json:
        show(console, experiment, ended)
    page = None
    if ended.done:
        console.print(f"Recorded in [bold]{escape(str(folder))}[/bold]", highlight=False)
        page = write([one.folder for one in ended.done], folder, console)
    if as_json:
        report = None if page is None else str(page)
        print(msgspec.json.encode({**as_values(experiment, ended, folder), "report": report}).decode())


def show(console: Console, experiment: "Experiment", ended: "Ended") -> None:
    """The table, and what to think of it."""
    scenario = experiment.scenario
    if ended.done:
        console.print(_table(experiment, ended.done), highlight=False)
    for words in (scenario.shows, scenario.note):
        if words:
            console.print(escape(words), highlight=False, style="dim")
    for one in ended.done:
        for reason in _doubts(one):
            console.print(f"[yellow]{escape(one.folder.name)}:[/yellow] {escape(reason)}", highlight=False)
    if ended.error is not None:
        console.print(f"[red]Ended early:[/red] {escape(ended.error.detail)}", highlight=False)
    if ended.interrupted:
        planned = len(list(experiment.turns()))
        console.print(
            f"[yellow]Interrupted:[/yellow] {len(ended.done)} of {planned} runs, of which the last may be cut off"
        )


def _doubts(one: "Done") -> Iterator[str]:
    if one.result is not None:
        yield from (f"not valid: {reason}" for reason in one.result.invalid)
        if one.result.stopped:
            yield f"the load ended early: {one.result.stopped}"
    if one.truncated:
        yield f"rows are missing: {one.truncated}"


def write(folders: Sequence[Path], out: Path, console: Console, tables: bool = False) -> Path | None:
    """Write the report of runs into a folder, and say where it is; None, with the reason said, if that cannot be.

    Args:
        folders: Of the runs.
        out: Gets the page.
        console: To say it on.
        tables: Whether to print its tables too, in which our figures stand beside those that were published.
    """
    from tidesight.commands.report import print_tables
    from tidesight.experiments.report.write import write_report

    try:
        written = write_report(folders, out)
    except TidesightError as error:  # a full disk, no Plotly: the runs are there all the same
        console.print(f"[red]No report:[/red] {escape(error.detail)}", highlight=False)
        return None
    if tables:
        print_tables(written.sections)
    for why in written.unreadable:
        console.print(f"[red]Not in the report:[/red] {escape(why)}", highlight=False)
    console.print(f"Report: [bold]{escape(str(written.page))}[/bold]", highlight=False)
    return written.page


def as_values(experiment: "Experiment", ended: "Ended", folder: Path) -> dict[str, Any]:
    """Everything as plain values."""
    runs = [
        {"arm": one.turn.arm.name, "repeat": one.turn.repeat, "folder": str(one.folder), "summary": one.summary}
        for one in ended.done
    ]
    error = None if ended.error is None else ended.error.detail
    whole = {"scenario": experiment.scenario.name, "folder": str(folder), "runs": runs}
    return {**whole, "interrupted": ended.interrupted, "error": error}


def print_scenarios(shows: Mapping[str, str], as_json: bool) -> None:
    """What is shipped."""
    if as_json:
        print(msgspec.json.encode(shows).decode())
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("scenario", no_wrap=True)
    table.add_column("shows")
    for name, words in shows.items():
        table.add_row(name, words)
    Console().print(table, highlight=False)


def _table(experiment: "Experiment", done: Sequence["Done"]) -> Table:
    scenario = experiment.scenario
    size = f", instances of {scenario.instance.cpu} CPU" if scenario.instance else ""
    spread = "; the median of the repeats, and their range" if experiment.repeats > 1 else "; one run of each"
    title = f"{scenario.name}: {scenario.duration_s:g} s{size}{spread}"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    rows = {name: [name] for name in _ROWS}
    for arm in experiment.arms:
        found: _Figures = [one.summary for one in done if one.turn.arm is arm]
        if found:
            table.add_column(arm.name, justify="right")
            for name, (figure, words) in _ROWS.items():
                rows[name].append(_spread([figure(one) for one in found], words))
    for cells in rows.values():
        table.add_row(*cells)
    return table


def _spread(values: Sequence[float | None], words: str) -> str:
    known = sorted(value for value in values if value is not None)
    if not known:
        return "-"
    middle = words.format(median(known))
    ends = [words.format(known[0]), words.format(known[-1])]
    return middle if ends[0] == ends[1] else f"{middle} ({ends[0]} to {ends[1]})"


def _latency(percentile: str) -> Callable[[Mapping[str, Any]], float | None]:
    def figure(summary: Mapping[str, Any]) -> float | None:
        value_s: float | None = summary.get("latency", {}).get(f"{percentile}_s")
        return None if value_s is None else 1e3 * value_s

    return figure


def _failed(summary: Mapping[str, Any]) -> float | None:
    return 100 * (1 - summary["answered"] / summary["sent"]) if summary.get("sent") else None


def _starts_ms(summary: Mapping[str, Any]) -> float | None:
    taken = [one["ready_s"] - one["asked_s"] for one in summary["starts"] if one["ready_s"] is not None]
    return 1e3 * median(taken) if taken else None


def _cost(summary: Mapping[str, Any]) -> float | None:
    found: float | None = (summary.get("cost") or {}).get("usd_per_thousand")
    return found


_ROWS: dict[str, tuple[Callable[[Mapping[str, Any]], float | None], str]] = {
    "sent": (lambda one: one.get("sent"), "{:.0f}"),
    "not answered": (_failed, "{:.1f} %"),
    "good a second": (lambda one: one.get("goodput_rps"), "{:.1f}"),
    "latency p50": (_latency("p50"), "{:.0f} ms"),
    "latency p95": (_latency("p95"), "{:.0f} ms"),
    "latency p99": (_latency("p99"), "{:.0f} ms"),
    "latency max": (_latency("max"), "{:.0f} ms"),
    "instances started": (lambda one: len(one["starts"]) or None, "{:.0f}"),
    "start, asked to ready": (_starts_ms, "{:.0f} ms"),
    "instance-seconds": (lambda one: one.get("instance_s"), "{:.0f}"),
    "USD, 1000 good answers": (_cost, "{:.4f}"),
}
