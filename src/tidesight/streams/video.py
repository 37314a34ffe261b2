"""One video from file to folder: detections as they come, then counts, a plot and the annotated video."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tidesight.errors import TidesightError
from tidesight.streams import counts
from tidesight.streams.answers import Model
from tidesight.streams.dispatch import Progress
from tidesight.streams.in_order import InOrder, Item
from tidesight.streams.options import DetectVideoOptions, FleetOptions
from tidesight.streams.reading import VideoReader
from tidesight.streams.record import Record, line_of
from tidesight.streams.render import render
from tidesight.streams.video_frames import VideoFrame, VideoFrames

_HASHED_BYTES = 1 << 20


@dataclass(frozen=True)
class VideoJob:
    """What to do with one video.

    Attributes:
        source: Path or URL.
        folder: For what is made of it.
        options: Which frames, and how they are sent.
        fleet: Where to.
        annotated: Whether to make the annotated video.
    """

    source: str
    folder: Path
    options: DetectVideoOptions
    fleet: FleetOptions
    annotated: bool = True

    def identity(self) -> dict[str, Any]:
        """What the recorded lines depend on; where they are computed is not part of it."""
        sampling = self.options.sampling
        return {
            "source": _fingerprint(self.source),
            "sampling": {"every": sampling.every, "fps": sampling.fps},
            "sent": {"longest_px": self.options.longest_px, "quality": self.options.quality},
            "options": dict(sorted(self.fleet.query.items())),
        }


@dataclass
class Stage:
    """Where a job is, for whoever shows it.

    Attributes:
        name: "detecting" or "drawing".
        done: Frames, of this stage.
        total: Frames that the container promises; 0 where it does not say.
        resumed: Frames that were there from an earlier run.
        progress: Of the requests.
    """

    name: str
    done: int
    total: int
    resumed: int
    progress: Progress


def run_video(job: VideoJob, show: Callable[[Stage], None] = lambda _: None) -> dict[str, Any]:
    """Do all that is not on disk yet; what is there from an earlier run is taken up.

    Returns:
        The summary, as it is in `run.json`: frames, failed, damaged, seconds of video, objects by label, `cut_short`
        (a reason or None).

    Raises:
        SourceError: the video cannot be read.
        FleetError: no instance answers; what was answered is kept.
        ConfigError: the folder holds something else.
        TidesightError: the disk does not take it; what was written before is kept.
    """
    started = perf_counter()
    with closing(Record(job.folder, job.identity())) as record:
        if not record.complete:
            read = _detect(job, record, show)
            _count(job, record, read | {"detecting_s": round(perf_counter() - started, 2)})
        summary = record.summary()
        annotated = next(iter(sorted(job.folder.glob("annotated.m*"))), None)
        if job.annotated and annotated is None:
            stage = Stage("drawing", 0, summary["source_frames"], 0, Progress())
            annotated = render(job.source, record.frames_path, job.folder, lambda n: show(_at(stage, n)))
    return summary | {"annotated": annotated.name if annotated else None}


def _detect(job: VideoJob, record: Record, show: Callable[[Stage], None]) -> dict[str, Any]:
    progress = Progress()
    with VideoReader(job.source) as reader:
        stage = Stage("detecting", 0, reader.promised_frames, record.done, progress)
        frames = VideoFrames(reader, job.options, done=record.done)

        def items(model: Model) -> Iterator[Item[VideoFrame]]:
            record.note_model(model.name)
            return frames.items(model)

        in_order = InOrder(items, job.fleet, job.options.window, progress)
        with closing(in_order.outcomes()) as outcomes:
            for outcome in outcomes:
                record.add(line_of(outcome))
                show(_at(stage, outcome.frame.index + 1))
        return {"cut_short": reader.cut_short, "source_frames": reader.read_frames}


def _count(job: VideoJob, record: Record, read: dict[str, Any]) -> None:
    whole = counts.totals(record.lines())
    try:
        counts.write_csv(record.frames_path, job.folder / "counts.csv", whole)
        counts.write_plot(record.frames_path, job.folder / "counts.svg", whole, f"Objects in {Path(job.source).name}")
    except OSError as error:
        raise TidesightError(f"cannot write {job.folder}: {error.strerror}") from None
    record.finish(
        {
            "frames": whole.frames,
            "failed": whole.failed,
            "damaged": whole.damaged,
            "end_s": whole.end_s,
            "objects": {label: count for (_, label), count in whole.classes.most_common()},
            **read,
        }
    )


def _at(stage: Stage, done: int) -> Stage:
    stage.done = done
    return stage


def _fingerprint(source: str) -> dict[str, Any]:
    """Tells one file from another: its size and a hash of its begin; of a URL, the URL."""
    try:
        with open(source, "rb") as file:
            begin = file.read(_HASHED_BYTES)
            return {"size_bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.sha256(begin).hexdigest()}
    except OSError:
        return {"name": source}
