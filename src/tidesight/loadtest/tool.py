"""Runs a load tool of the field as a process, and records the requests that it reports while it runs."""

import csv
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep, time
from typing import IO

from tidesight.errors import ConfigError, TidesightError
from tidesight.loadtest.plan import INTERRUPTED, Load, Observer, Progress
from tidesight.loadtest.recorder import LoadResult, doubts
from tidesight.loadtest.target import Body
from tidesight.runs.rows import RequestRow
from tidesight.runs.writer import RunWriter
from tidesight.workload.outcome import Latencies, Tally

_POLL_S = 0.2
_LAST_LINES = 12


@dataclass(frozen=True)
class Tool:
    """How to run a tool on a plan.

    Attributes:
        name: For errors.
        command: Run in the plan's folder.
        results: The CSV file there, with a header, that the tool appends each request to.
        parse: A row from its cells; times are Unix times. None for a line that is no request.
        knows_due: Whether the rows say when each request was due.
    """

    name: str
    command: Sequence[str]
    results: str
    parse: Callable[[Mapping[str, str]], RequestRow | None]
    knows_due: bool


def write_bodies(folder: Path, bodies: Sequence[Body]) -> list[str]:
    """Write each body to a file of its own in the folder; their names there.

    Raises:
        ConfigError: they cannot be written.
    """
    names = [f"body-{number:04d}" for number in range(len(bodies))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in zip(names, bodies, strict=True):
            (folder / name).write_bytes(body.data)
    except OSError as error:
        raise ConfigError(f"cannot write a plan into {folder}: {error.strerror}", field="write_plan") from None
    return names


def run_tool(tool: Tool, folder: Path, load: Load, writer: RunWriter | None, observe: Observer) -> LoadResult:
    """Run a tool on the plan in a folder, to its end or until Ctrl-C.

    Raises:
        TidesightError: it ended badly; with its last words.
    """
    used_s, began_s = _children_cpu_s(), monotonic()
    follower = _Follower(tool, folder, load, writer)
    with (folder / "output.log").open("w+") as log:
        # Apart from our terminal: Ctrl-C is for us, who then end it and keep what it has reported.
        process = subprocess.Popen(  # noqa: S603 - a command of our own making
            tool.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        stopped = None
        try:
            while process.poll() is None and stopped is None:
                sleep(_POLL_S)
                stopped = observe(follower.progress())
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        finally:
            _end(process)
        follower.read()
        if stopped is None and not follower.rows:
            raise TidesightError(f"{tool.name} reported no request and ended with {process.returncode}: {_tail(log)}")
    cpu_ratio = (_children_cpu_s() - used_s) / (monotonic() - began_s)
    return follower.result(cpu_ratio, stopped)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return " / ".join(line.strip() for line in log.readlines()[-_LAST_LINES:] if line.strip()) or "it said nothing"


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Follower:
    """Reads what a tool appends to its file.

    Attributes:
        rows: How many requests it has reported.
    """

    def __init__(self, tool: Tool, folder: Path, load: Load, writer: RunWriter | None) -> None:
        self._tool = tool
        self._file = folder / tool.results
        self._load = load
        self._writer = writer
        self._zero_s = time() if writer is None else writer.started_epoch_s
        self._read_bytes = 0
        self._columns: list[str] = []
        self._tally = Tally(load.objective_s)
        self._lag = Latencies()
        self._began_s = monotonic()
        self.rows = 0

    def progress(self) -> Progress:
        """Read on, and say how it goes."""
        self.read()
        elapsed_s = monotonic() - self._began_s
        return Progress(elapsed_s, self.rows, 0, self._tally.outcome(elapsed_s))

    def read(self) -> None:
        """Take what has been appended, as far as its last whole line."""
        for cells in csv.reader(self._lines()):
            if not self._columns:
                self._columns = cells
                continue
            row = self._tool.parse(dict(zip(self._columns, cells, strict=False)))
            if row is not None:
                self._take(row)

    def _lines(self) -> Iterator[str]:
        with suppress(FileNotFoundError), self._file.open("rb") as file:
            file.seek(self._read_bytes)
            whole, newline, _ = file.read().rpartition(b"\n")
            self._read_bytes += len(whole) + len(newline)
            if newline:
                yield from whole.decode(errors="replace").split("\n")

    def _take(self, row: RequestRow) -> None:
        self.rows += 1
        assert row.end_s is not None and row.start_s is not None
        self._tally.add(row.end_s - row.intended_s, row.status, row.error)
        if self._tool.knows_due:
            self._lag.add(row.start_s - row.intended_s)
        if self._writer is not None:
            zero_s = self._zero_s
            self._writer.request(
                replace(row, intended_s=row.intended_s - zero_s, start_s=row.start_s - zero_s, end_s=row.end_s - zero_s)
            )

    def result(self, cpu_ratio: float, stopped: str | None) -> LoadResult:
        """What came of it."""
        took_s = monotonic() - self._began_s
        seconds = self._load.duration_s if stopped is None else min(monotonic() - self._began_s, self._load.duration_s)
        outcome = self._tally.outcome(seconds)
        # A tool of several threads may well take more than a core.
        invalid = doubts(outcome, self._lag, 0.0) if self._tool.knows_due else ()
        if stopped is None and took_s < self._load.duration_s:
            invalid = (*invalid, f"{self._tool.name} ended after {took_s:.1f} of {self._load.duration_s:g} s")
        truncated = None if self._writer is None else self._writer.truncated
        return LoadResult(outcome, self._lag, cpu_ratio, 0, 0, stopped, invalid, truncated)
