"""The library call: a video's frames and what a fleet finds in them, in order."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from os import PathLike, fspath

import numpy as np

from tidesight.detection.detections import Detections
from tidesight.streams.answers import Failed, Found
from tidesight.streams.dispatch import Progress
from tidesight.streams.in_order import InOrder, Outcome
from tidesight.streams.options import DetectVideoOptions, FleetOptions
from tidesight.streams.reading import VideoReader
from tidesight.streams.video_frames import PixelReader, VideoFrame, VideoFrames


def detect_video(
    source: "str | PathLike[str]",
    url: str = "",
    options: DetectVideoOptions = DetectVideoOptions(),
    fleet: FleetOptions | None = None,
) -> Iterator[tuple[VideoFrame, Detections]]:
    """Find objects in a video with a fleet; frames come in order, whatever instance answered them.

    A frame that could not be decoded or answered has the reason in its `error`, and no detections.

    Args:
        source: A file that FFmpeg reads, or a URL of one.
        url: Of a fleet or an instance.
        options: Which frames, and how they are sent.
        fleet: In place of `url`: several URLs, a key, detection options, bounds.

    Yields:
        The frame, and what is in it; boxes are in pixels of the frame in full, upright.

    Raises:
        SourceError: the file cannot be read.
        FleetError: no instance answers.
        MissingExtra: the extra `streams` is not installed.
    """
    asked = FleetOptions((url,)) if fleet is None else fleet
    path = fspath(source)
    with VideoReader(path) as reader, closing(PixelReader(path)) as pixels:
        frames = VideoFrames(reader, options, pixels=pixels)
        with closing(InOrder(frames.items, asked, options.window, Progress()).outcomes()) as outcomes:
            for outcome in outcomes:
                yield with_error(outcome), _detections(outcome, frames)


def with_error(outcome: Outcome[VideoFrame]) -> VideoFrame:
    """The frame, with the reason for which nothing was found out about it."""
    verdict = outcome.verdict
    return replace(outcome.frame, error=verdict.reason) if isinstance(verdict, Failed) else outcome.frame


def _detections(outcome: Outcome[VideoFrame], frames: VideoFrames) -> Detections:
    if isinstance(outcome.verdict, Found):
        return outcome.verdict.detections
    return Detections(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        frames.model.classes if frames.model else (),
        outcome.frame.width_px,
        outcome.frame.height_px,
    )
