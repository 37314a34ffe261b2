"""What `tidesight tune` prints: a table, a JSON object, a plot."""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from tidesight.tuning.accuracy import Yardstick
from tidesight.tuning.candidates import Space
from tidesight.tuning.choosing import Bounds, Row, frontier
from tidesight.tuning.search import Outcome

_WIDTH = 116
_BUSY = 0.05  # share of the time that others took
METHOD = (
    "Pictures/s: all workers busy, less the time in which others held the CPU. p99: pictures fall due at random times "
    "(Poisson) at 70 % of what the candidate did just before, and each counts from when it was due to its end. "
    "Decoding is part of both; HTTP is not."
)


@dataclass(frozen=True)
class Report:
    """A finished search."""

    outcome: Outcome
    space: Space
    stick: Yardstick
    bounds: Bounds
    model: str

    def conditions(self) -> dict[str, Any]:
        """What the figures hold for."""
        return {"score": self.stick.describe(), "bounds": asdict(self.bounds), "method": METHOD}

    def print(self, as_json: bool) -> None:
        """Print a table, or one JSON object."""
        if as_json:
            print(json.dumps(self._as_json()))
        else:
            self._print_table()

    def plot(self, page: bool) -> str:
        """The plot as SVG, or as a page that holds it."""
        from tidesight.tuning.plot import html, svg

        title = f"{self.model}: pictures a second against {self.stick.name}"
        picture = svg(self.outcome, title, self.stick.name, self.bounds.max_drop, self.space.native_px)
        return html(picture, title) if page else picture

    def _as_json(self) -> dict[str, Any]:
        best = frontier(self.outcome.rows)
        chosen = self.outcome.chosen
        return {
            "model": self.model,
            **self.conditions(),
            "fp32_accuracy": self.outcome.reference,
            "disturbed": self.outcome.disturbed,
            "chosen": chosen and self._row(chosen, best),
            "candidates": [self._row(row, best) for row in self.outcome.rows],
            "left_out": dict(self.space.left_out),
        }

    def _row(self, row: Row, best: list[Row]) -> dict[str, Any]:
        return {
            **asdict(row.candidate),
            "side_px": row.candidate.side_px or self.space.native_px,
            "pictures_per_s": row.speed,
            "spread": row.spread,
            "rounds": len(row.per_s),
            "p99_ms": row.p99_ms,
            "latencies": len(row.latencies_ms),
            "accuracy": row.accuracy,
            "memory_bytes": row.memory_bytes,
            "frontier": row in best,
            "note": row.note,
        }

    def _print_table(self) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        # A pipe has no width; a line of the table needs about this one.
        console = Console(width=None if sys.stdout.isatty() else _WIDTH)
        best = frontier(self.outcome.rows)
        table = Table(box=box.SIMPLE_HEAD, title=f"{self.model}: {self.stick.describe()}", title_justify="left")
        table.add_column("candidate", no_wrap=True)
        for header in ("pict./s", "spread", "p99 ms", self.stick.name, "MB"):
            table.add_column(header, justify="right")
        table.add_column("")
        table.add_column("verdict", overflow="fold")
        for row in sorted(self.outcome.rows, key=lambda row: -row.speed):
            table.add_row(*self._cells(row, best))
        console.print(table)
        for what, why in self.space.left_out:
            console.print(f"Not tried: {what}, {why}.", highlight=False)
        console.print(f"* on the frontier of pictures/s and {self.stick.name}. {METHOD}", highlight=False)
        if self.outcome.disturbed > _BUSY:
            console.print(
                f"[yellow]Others took {self.outcome.disturbed:.0%} of the time. It is taken off pictures/s, but not "
                "off p99, and caches were shared: tune again when the machine is quiet.[/yellow]",
                highlight=False,
            )
        console.print(self._verdict(), highlight=False)

    def _cells(self, row: Row, best: list[Row]) -> tuple[str, ...]:
        from rich.markup import escape

        chosen, one = row is self.outcome.chosen, row.candidate
        size = f"{one.side_px or self.space.native_px} {one.shape}"
        name = f"{one.engine} {one.precision} {one.workers}x{one.threads_each} {size}"
        verdict = row.note or ("[bold]chosen[/bold]" if chosen else "auto" if row is self.outcome.rows[0] else "holds")
        return (
            f"[bold]{name}[/bold]" if chosen else name,
            f"{row.speed:.1f}" if row.speed else "",
            f"{row.spread:.0%}" if len(row.per_s) > 1 else "",
            f"{row.p99_ms:.0f}" if row.p99_ms is not None else "",
            f"{row.accuracy:.4f}" if row.accuracy is not None else "",
            f"{row.memory_bytes / 2**20:.0f}" if row.memory_bytes else "",
            "*" if row in best else "",
            verdict if not row.note else escape(verdict),
        )

    def _verdict(self) -> str:
        chosen, auto = self.outcome.chosen, self.outcome.rows[0]
        within = f"p99 {self.bounds.p99_ms:g} ms and a drop of {self.bounds.max_drop:g} {self.stick.name}"
        if chosen is None:
            return f"Nothing keeps {within}; nothing is saved."
        if chosen is auto:
            return f"Nothing is faster than auto within {within}."
        name = chosen.candidate.describe(self.space.native_px)
        return f"Chosen within {within}: {name}; {chosen.speed / auto.speed:.2f}x the pictures/s of auto."
