"""Timestamps that only go forward, whatever a container says."""

from typing import NamedTuple


class Moment(NamedTuple):
    """When a frame is shown.

    Attributes:
        ticks: In units of the stream's time base; greater than that of every frame before.
        as_stored: False where the container had no timestamp, or one that did not go forward.
    """

    ticks: int
    as_stored: bool


class Timeline:
    """Places frames, in the order in which a decoder shows them, on a time that only goes forward.

    A timestamp that repeats or goes back a little becomes one tick more than the last, so that those after it are
    as stored again. One that goes back by `jump_ticks` or more begins a new part (a stream that was put together, a
    counter that started anew): it and all after it are moved behind what was there.

    Args:
        frame_ticks: Nominal duration of a frame, for frames without a timestamp (>= 1).
        jump_ticks: How far back is a new part (>= 1).
    """

    def __init__(self, frame_ticks: int, jump_ticks: int) -> None:
        self._frame_ticks = max(1, frame_ticks)
        self._jump_ticks = max(1, jump_ticks)
        self._offset = 0
        self._last: int | None = None

    def place(self, stored: int | None) -> Moment:
        """The moment of the next frame; None where the container says nothing."""
        if self._last is None:
            ticks = 0 if stored is None else stored
        elif stored is None:
            ticks = self._last + self._frame_ticks
        else:
            ticks = stored + self._offset
            if ticks <= self._last - self._jump_ticks:
                self._offset += self._last + self._frame_ticks - ticks
                ticks = stored + self._offset
            ticks = max(ticks, self._last + 1)
        self._last = ticks
        return Moment(ticks, ticks == stored)
