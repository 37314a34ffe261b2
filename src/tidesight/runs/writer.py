"""Writes a run as it happens, so that whatever ends the recording leaves a run that can be read."""

import csv
import io
import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from tidesight.errors import ConfigError
from tidesight.runs.rows import DecisionRow, RequestRow, SampleRow, StreamRow, header

FORMAT = 1
FACTS, SUMMARY, PART, TRUNCATED = "run.json", "summary.json", "summary.part", "truncated"
REQUESTS, SAMPLES, DECISIONS = "requests.csv.gz", "samples.csv", "decisions.csv"
STREAMS = "streams.csv"
_BLOCK_CHARACTERS = 1 << 16
_BLOCK_S = 1.0


class RunWriter:
    """One run folder being written. Each table is opened by its first row and belongs to whoever writes that row.

    Several writers may share a folder as long as each writes tables of its own: one creates it, the others `join`, and
    the one that created it is the one to `finish`. A writer is used from one thread.

    A full disk does not stop what is being measured: rows that cannot be written are left out, `truncated` says why,
    and the folder is marked.

    Attributes:
        folder: Of the run.
        started_epoch_s: The time that is 0 in every row, as Unix time.
        truncated: Why rows are missing; None when none is.
    """

    def __init__(self, folder: Path, started_epoch_s: float) -> None:
        self.folder = folder
        self.started_epoch_s = started_epoch_s
        self.truncated: str | None = None
        self._tables: dict[str, _Table] = {}

    @classmethod
    def create(cls, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Make a run's folder and write its `run.json`.

        Args:
            folder: Made with the folders above it.
            facts: What was run on what: scenario, platform, versions, machine, seeds; plain values. `started_epoch_s`
                is added when it is absent, and `format`.

        Raises:
            ConfigError: there is a run in it already, or it cannot be written.
        """
        whole = {"format": FORMAT, "started_epoch_s": time.time(), **facts}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / FACTS).exists():
                raise ConfigError(f"{folder} holds a run already; choose another folder", field="out")
            _write_json(folder / FACTS, whole)
        except OSError as error:
            raise ConfigError(f"cannot record into {folder}: {error.strerror}", field="out") from None
        return cls(folder, whole["started_epoch_s"])

    @classmethod
    def join(cls, folder: Path) -> Self:
        """Write tables of a run that another writer, perhaps of another process, has created.

        Raises:
            ConfigError: there is no run in the folder.
        """
        try:
            return cls(folder, json.loads((folder / FACTS).read_bytes())["started_epoch_s"])
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{folder} holds no run to join: {error}", field="out") from None

    def request(self, row: RequestRow) -> None:
        """Record a request; on disk a second of the run later at the latest, or at the end."""
        self._table(REQUESTS, RequestRow).add(
            (
                f"{row.intended_s:.6f}", _seconds(row.start_s), _seconds(row.end_s), row.status,
                row.bytes_out, row.bytes_in, row.instance, row.error,
            ),
            row.end_s or row.intended_s,
        )  # fmt: skip

    def sample(self, row: SampleRow) -> None:
        """Record the state of an instance; on disk at once."""
        cells = (
            f"{row.t_s:.3f}", row.instance, row.state, _short(row.in_flight), _short(row.queued), _short(row.cpu_ratio),
            row.memory_bytes, row.answered,
        )  # fmt: skip
        self._table(SAMPLES, SampleRow).add(cells)

    def decision(self, row: DecisionRow) -> None:
        """Record a decision; on disk at once."""
        detail = json.dumps(row.detail, separators=(",", ":"), default=str)
        valid = "true" if row.valid else "false"
        cells = (f"{row.t_s:.3f}", row.policy, row.ready, row.current, row.desired, row.reason, valid, detail)
        self._table(DECISIONS, DecisionRow).add(cells)

    def stream(self, row: StreamRow) -> None:
        """Record how a camera fared; on disk at once."""
        cells = (f"{row.t_s:.3f}", row.stream, _short(row.target_fps), _short(row.fps), _short(row.age_p99_s))
        self._table(STREAMS, StreamRow).add((*cells, row.skipped))

    def amend(self, facts: Mapping[str, Any]) -> None:
        """Add to `run.json` what was not known when the run began; for the writer that created it."""
        try:
            whole = json.loads((self.folder / FACTS).read_bytes())
            _write_json(self.folder / FACTS, {**whole, **facts})
        except OSError as error:
            self._truncate(FACTS, error)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Close the tables and write `summary.json`, which says that the run is whole; with the part of who joined."""
        self.close()
        try:
            _write_json(self.folder / SUMMARY, {**self.joined(), **summary})
            (self.folder / PART).unlink(missing_ok=True)
        except OSError as error:
            self._truncate(SUMMARY, error)

    def joined(self) -> dict[str, Any]:
        """The part of the summary that a writer which joined has left; empty when there is none."""
        try:
            part: dict[str, Any] = json.loads((self.folder / PART).read_bytes())
        except (OSError, ValueError):
            return {}
        return part

    def leave(self, part: Mapping[str, Any]) -> None:
        """Close the tables and leave a part of the summary to the writer that finishes; for one that joined."""
        self.close()
        try:
            _write_json(self.folder / PART, part)
        except OSError as error:
            self._truncate(PART, error)

    def close(self) -> None:
        """Put every row on disk; for writers that joined. A run without a summary counts as cut off."""
        for table in self._tables.values():
            table.close()

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the tables."""
        self.close()

    def _table(self, name: str, kind: type) -> "_Table":
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = _Table(self, name, header(kind))
        return table

    def _truncate(self, name: str, error: OSError) -> None:
        """Mark the folder: an empty file finds room where a text does not."""
        self.truncated = self.truncated or f"{name}: {error.strerror or error}"
        try:
            with (self.folder / TRUNCATED).open("a") as marker:
                marker.write(f"{name}: {error.strerror or error}\n")
        except OSError:
            return


class _Table:
    """A CSV file written in blocks, each of which can be read without what follows; compressed when named `.gz`."""

    def __init__(self, writer: RunWriter, name: str, columns: list[str]) -> None:
        self._writer = writer
        self._name = name
        self._text = io.StringIO()
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._compressor = zlib.compressobj(1, wbits=31) if name.endswith(".gz") else None
        self._flushed_s = 0.0
        self._file: BinaryIO | None = None
        self._rows.writerow(columns)
        try:
            self._file = (writer.folder / name).open("wb", buffering=0)
        except OSError as error:
            writer._truncate(name, error)

    def add(self, cells: tuple[object, ...], at_s: float | None = None) -> None:
        self._rows.writerow(cells)
        if at_s is None or at_s - self._flushed_s >= _BLOCK_S or self._text.tell() >= _BLOCK_CHARACTERS:
            self._flushed_s = at_s or 0.0
            self._put(zlib.Z_SYNC_FLUSH)

    def close(self) -> None:
        self._put(zlib.Z_FINISH)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, mode: int) -> None:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        if self._file is None:  # the disk is full, or the table closed: rows are left out
            return
        data = text.encode()
        if self._compressor is not None:
            data = self._compressor.compress(data) + self._compressor.flush(mode)
        try:
            _write_all(self._file.fileno(), data)
        except OSError as error:
            self._file.close()
            self._file = None
            self._writer._truncate(self._name, error)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    new = file.with_suffix(".new")
    try:
        new.write_text(json.dumps(values, indent=1, default=str) + "\n")
        new.replace(file)  # whole, or not at all
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}"


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"
