"""Reads a run, whole or cut off."""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidesight.errors import DataError
from tidesight.runs.rows import DecisionRow, RequestRow, SampleRow, StreamRow, header
from tidesight.runs.writer import DECISIONS, FACTS, FORMAT, REQUESTS, SAMPLES, STREAMS, SUMMARY, TRUNCATED

Floats = npt.NDArray[np.float64]
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class Requests:
    """All requests of a run, a NumPy column each, in the order in which they ended.

    Attributes:
        intended_s: float64.
        start_s: float64; NaN for never sent.
        end_s: float64; NaN for still under way at the end.
        status: int16; 0 for no answer.
        bytes_out: int64.
        bytes_in: int64.
        instance: object: str, or None where the answer did not say.
        error: object: str, or None for an answer.
    """

    intended_s: Floats
    start_s: Floats
    end_s: Floats
    status: npt.NDArray[np.int16]
    bytes_out: npt.NDArray[np.int64]
    bytes_in: npt.NDArray[np.int64]
    instance: npt.NDArray[np.object_]
    error: npt.NDArray[np.object_]

    def __len__(self) -> int:
        """How many."""
        return len(self.intended_s)

    @property
    def latency_s(self) -> Floats:
        """From when each was due to its end; NaN for what had not ended."""
        return self.end_s - self.intended_s


class RunReader:
    """A run's folder.

    Attributes:
        folder: Of the run.
        facts: What `run.json` says.
        summary: What `summary.json` says; empty for a run that was cut off.

    Raises:
        DataError: there is no run in it, or one of a later format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = _read_json(folder / FACTS)
        if self.facts.get("format") != FORMAT:
            raise DataError(f"{folder}: a run of format {self.facts.get('format')}; this version reads {FORMAT}")
        self.summary = _read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else {}
        self._cut: set[str] = set()

    @property
    def truncated(self) -> str | None:
        """Why something is missing; None for a whole run. Tables are known to be cut once they have been read."""
        marker = self.folder / TRUNCATED
        if marker.exists():
            return marker.read_text().strip().replace("\n", "; ") or "the disk was full"
        if self._cut:
            return f"{', '.join(sorted(self._cut))}: the end is missing"
        return None if (self.folder / SUMMARY).exists() else "the recording was not finished"

    def requests(self) -> Requests:
        """All requests; a million take a few seconds.

        Raises:
            DataError: the table is not one of this format.
        """
        kinds = [_float] * 3 + [_whole(np.int16)] + [_whole(np.int64)] * 2 + [_words] * 2
        parts: list[list[npt.NDArray[Any]]] = [[kind([])] for kind in kinds]
        for lines in self._lines(REQUESTS, RequestRow):
            try:
                for part, kind, column in zip(parts, kinds, _columns(lines, len(kinds)), strict=True):
                    part.append(kind(column))
            except (ValueError, OverflowError) as error:
                raise DataError(f"{self.folder / REQUESTS}: {error}") from None
        return Requests(*(np.concatenate(part) for part in parts))

    def samples(self) -> list[SampleRow]:
        """The state of every instance, second by second."""
        kinds: list[_Cell] = [float, str, str, _maybe(float), _maybe(float), _maybe(float), _maybe(int), _maybe(int)]
        return [SampleRow(*cells) for cells in self._parsed(SAMPLES, SampleRow, kinds)]

    def decisions(self) -> list[DecisionRow]:
        """Every decision of the scaling policy."""
        kinds: list[_Cell] = [float, str, _maybe(int), int, int, str, "true".__eq__, json.loads]
        return [DecisionRow(*cells) for cells in self._parsed(DECISIONS, DecisionRow, kinds)]

    def streams(self) -> list[StreamRow]:
        """How every camera fared; nothing where the load was no cameras."""
        kinds: list[_Cell] = [float, str, float, float, _maybe(float), int]
        return [StreamRow(*cells) for cells in self._parsed(STREAMS, StreamRow, kinds)]

    def _parsed(self, name: str, kind: type, kinds: list["_Cell"]) -> Iterator[list[Any]]:
        rows = csv.reader(line for lines in self._lines(name, kind) for line in lines)
        for number, cells in enumerate(rows, 2):
            try:
                yield [parse(cell) for parse, cell in zip(kinds, cells, strict=True)]
            except ValueError as error:
                raise DataError(f"{self.folder / name}, line {number}: {error}") from None

    def _lines(self, name: str, kind: type) -> Iterator[list[str]]:
        """The lines of a table, some at a time, without its columns' names; it may be absent, or end within a line."""
        if not (self.folder / name).exists():
            return
        columns, rest = ",".join(header(kind)), b""
        expected: str | None = columns
        for data in self._blocks(name):
            whole, newline, rest = (rest + data).rpartition(b"\n")
            if not newline:
                continue
            lines = whole.decode(errors="replace").split("\n")
            if expected is not None and lines.pop(0) != expected:
                raise DataError(f"{self.folder / name}: its first line is not {columns}")
            expected = None
            if lines:
                yield lines
        if rest or expected is not None:
            self._cut.add(name)

    def _blocks(self, name: str) -> Iterator[bytes]:
        with (self.folder / name).open("rb") as file:
            if not name.endswith(".gz"):
                yield from iter(lambda: file.read(_BLOCK_BYTES), b"")
                return
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield from iter(lambda: unpacked.read1(_BLOCK_BYTES), b"")
            except (EOFError, OSError, zlib.error):  # cut, or not compressed at all
                self._cut.add(name)


_Cell = Callable[[str], Any]


_Cells = Sequence[str]


def _columns(lines: list[str], count: int) -> list[_Cells]:
    """The cells by column. Nearly all tables need no more than splitting, far faster than a CSV reader."""
    text = ",".join(lines)
    if '"' in text or text.count(",") != len(lines) * count - 1:
        return list(zip(*csv.reader(lines), strict=True))
    cells = text.split(",")
    return [cells[place::count] for place in range(count)]


def _maybe(parse: _Cell) -> _Cell:
    return lambda cell: parse(cell) if cell else None


def _float(column: _Cells) -> npt.NDArray[Any]:
    return np.array([float(cell) if cell else np.nan for cell in column], np.float64)


def _whole(kind: type[np.integer[Any]]) -> Callable[[_Cells], npt.NDArray[Any]]:
    return lambda column: np.array([int(cell) if cell else 0 for cell in column], kind)


def _words(column: _Cells) -> npt.NDArray[Any]:
    return np.array([sys.intern(cell) if cell else None for cell in column], np.object_)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file.parent} holds no run: {error.strerror} ({file.name})") from None
    except ValueError as error:
        raise DataError(f"{file}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{file}: expected a JSON object")
    return values
