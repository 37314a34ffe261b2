"""Objects followed from frame to frame: ByteTrack, one tracker for each class."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tidesight.detection.detections import Detections
from tidesight.errors import MissingExtra
from tidesight.streams.cameras.scene import Seen

LEAST_SCORE = 0.1  # ByteTrack looks at weak boxes too, to go on with what it follows; it begins with strong ones
_STRONG = 0.4
_REMEMBERED_S = 2.0
_OVERLAP = 0.3


class Tracker:
    """ByteTrack (Zhang et al. 2022) as the package pyxtrackers has it.

    Args:
        fps: Frames a second it is fed with.

    Raises:
        MissingExtra: the package is not installed.
    """

    def __init__(self, fps: float) -> None:
        try:
            from pyxtrackers import BYTETracker
        except ImportError:
            raise MissingExtra("pyxtrackers", "streams") from None
        # It counts in frames of which it takes 30 for a second, whatever the rate is said to be.
        buffer = max(2, round(_REMEMBERED_S * fps))
        self._make: Callable[[], Any] = lambda: BYTETracker(frame_rate=30, track_thresh=_STRONG, track_buffer=buffer)
        self._by_class: dict[int, Any] = {}

    def update(self, detections: Detections) -> list[Seen]:
        """The objects of the next frame that are followed, each with the number of its track."""
        rows = np.column_stack([detections.boxes, detections.scores]).astype(np.float64)
        found: list[Seen] = []
        for class_id in {*self._by_class, *detections.class_ids.tolist()}:
            mine = rows[detections.class_ids == class_id]
            if class_id not in self._by_class:
                self._by_class[class_id] = self._make()
            tracks = np.asarray(self._by_class[class_id].update(mine), np.float64)
            for track, row in _matched(tracks, mine) if len(tracks) else ():
                found.append(seen_of(detections, row, class_id, int(track[4])))
        return found


def _matched(tracks: Any, rows: Any) -> list[tuple[Any, Any]]:
    """Each track with the detection it was updated with: that which overlaps its smoothed box the most."""
    pairs = []
    free = list(range(len(rows)))
    for track in tracks:
        best = max(free, key=lambda number: _iou(track[:4], rows[number][:4]), default=None)
        if best is not None and _iou(track[:4], rows[best][:4]) >= _OVERLAP:
            free.remove(best)
            pairs.append((track, rows[best]))
    return pairs


def _iou(one: Any, other: Any) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    both = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    shared = width * height
    return float(shared / (both - shared)) if both > shared else 0.0


def without_tracks(detections: Detections) -> list[Seen]:
    """All objects of a frame, each for itself."""
    rows = np.column_stack([detections.boxes, detections.scores]).astype(np.float64)
    return [seen_of(detections, row, int(number), None) for row, number in zip(rows, detections.class_ids, strict=True)]


def seen_of(detections: Detections, row: Any, class_id: int, track: int | None) -> Seen:
    """A row of x1, y1, x2, y2, score in pixels as an object in fractions."""
    width, height = detections.image_width_px, detections.image_height_px
    x1, y1, x2, y2 = row[0] / width, row[1] / height, row[2] / width, row[3] / height
    box = (float(x1), float(y1), float(x2), float(y2))
    return Seen(detections.class_names[class_id], (float(x1 + x2) / 2, float(y2)), track, float(row[4]), box)
