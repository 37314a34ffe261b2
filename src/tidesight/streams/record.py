"""What is known about a video, on disk as it comes: a line of JSON per frame, and what they are lines of."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tidesight.detection.detections import Detection
from tidesight.errors import ConfigError, TidesightError
from tidesight.streams.answers import Found
from tidesight.streams.in_order import Outcome
from tidesight.streams.video_frames import VideoFrame

FRAMES, RUN = "detections.jsonl", "run.json"


class ObjectLine(msgspec.Struct):
    """One object: box x1, y1, x2, y2 in pixels of the frame in full."""

    box: list[float]
    score: float
    class_id: int
    label: str


class FrameLine(msgspec.Struct, omit_defaults=True):
    """One frame: what was found, or the reason why that is not known.

    `stored_s` is what the container says where `timestamp_s` had to differ.
    """

    frame: int
    timestamp_s: float
    stored_s: float | None = None
    damaged: bool = False
    error: str | None = None
    detections: list[ObjectLine] | None = None

    def objects(self) -> list[Detection]:
        """As detections, for drawing."""
        return [
            Detection((one.box[0], one.box[1], one.box[2], one.box[3]), one.score, one.class_id, one.label)
            for one in self.detections or ()
        ]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(FrameLine).decode


def line_of(outcome: Outcome[VideoFrame]) -> FrameLine:
    """The line of a frame's outcome."""
    frame, verdict = outcome.frame, outcome.verdict
    line = FrameLine(frame.index, frame.timestamp_s, frame.stored_s, frame.damaged)
    if not isinstance(verdict, Found):
        line.error = verdict.reason
        return line
    line.detections = [
        ObjectLine([round(side, 2) for side in found.box], round(found.score, 4), found.class_id, found.label)
        for found in verdict.detections
    ]
    return line


class Record:
    """The folder of one video's run.

    Lines are written whole and at once, so what an interruption leaves is whole lines and at most one torn one,
    which is cut off when the run goes on.

    Args:
        folder: Made if need be.
        identity: What the lines depend on: the video and the options. A folder with another one is not touched.

    Attributes:
        done: Frames that are in it.
        complete: Whether all are.

    Raises:
        ConfigError: the folder cannot be used, or holds something else.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self._run = folder / RUN
        self.frames_path = folder / FRAMES
        self._identity = identity
        self._model: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.complete = self._check()
            self.done = _whole_lines(self.frames_path)
            self._file = self.frames_path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot write {folder}: {error.strerror or error}", field="out") from None

    def _check(self) -> bool:
        try:
            there = msgspec.json.decode(self._run.read_bytes())
        except FileNotFoundError:
            if self.frames_path.exists() and self.frames_path.stat().st_size:
                raise ConfigError(f"{self.frames_path} is there, but not {RUN}; give another --out") from None
            self._write({"complete": False})
            return False
        except msgspec.DecodeError:
            there = {}
        if there.get("identity") != self._identity:
            differs = _difference(there.get("identity"), self._identity)
            raise ConfigError(
                f"{self.folder} holds a run with another {differs}; give another --out, or --overwrite", field="out"
            )
        self._model = there.get("model")
        return bool(there.get("complete"))

    def note_model(self, name: str) -> None:
        """Say which model answers; the lines of one record come from one.

        Raises:
            ConfigError: those that are there come from another.
        """
        if self._model == name:
            return
        if self.done and self._model is not None:
            raise ConfigError(
                f"{self.folder} was begun with the model {self._model}, the fleet serves {name}; give another --out, "
                "or --overwrite",
                field="out",
            )
        self._model = name
        self._write({"complete": False})

    def add(self, line: FrameLine) -> None:
        """Append a frame.

        Raises:
            TidesightError: the disk does not take it; the lines before are kept.
        """
        data = _encode(line) + b"\n"
        try:
            written = self._file.write(data)
            if written != len(data):  # a disk that is nearly full takes a part; the rest says why
                self._file.write(data[written:])
        except OSError as error:
            raise TidesightError(
                f"cannot write {self.frames_path}: {error.strerror}; {self.done} frames are kept, and the same "
                "command goes on from there"
            ) from None
        self.done += 1

    def lines(self) -> Iterator[FrameLine]:
        """All that is in it, one after the other."""
        return read_lines(self.frames_path)

    def finish(self, summary: dict[str, Any]) -> None:
        """Note that all frames are in it."""
        try:
            self._write({"complete": True, "summary": summary})
        except OSError as error:
            raise TidesightError(f"cannot write {self._run}: {error.strerror}") from None
        self.complete = True

    def summary(self) -> dict[str, Any]:
        """What was noted at the end."""
        found: dict[str, Any] = msgspec.json.decode(self._run.read_bytes()).get("summary", {})
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, state: dict[str, Any]) -> None:
        content = {"identity": self._identity, "model": self._model, **state}
        beside = self._run.with_suffix(".tmp")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        beside.replace(self._run)


def read_lines(path: Path) -> Iterator[FrameLine]:
    """The frames in a file of lines."""
    with path.open("rb") as file:
        for line in file:
            yield _decode(line)


def remove(folder: Path) -> None:
    """Remove the lines of an earlier run, and the note what they are."""
    for name in (FRAMES, RUN):
        with suppress(FileNotFoundError):
            (folder / name).unlink()


def _whole_lines(path: Path) -> int:
    """How many whole lines there are; what is torn at the end is cut off."""
    if not path.exists():
        return 0
    count = whole_bytes = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            count, whole_bytes = count + 1, whole_bytes + len(line)
    if path.is_file() and whole_bytes < path.stat().st_size:
        os.truncate(path, whole_bytes)
    return count


def _difference(there: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(there, dict):
        return "origin"
    return ", ".join(name for name in wanted if there.get(name) != wanted[name]) or "origin"
