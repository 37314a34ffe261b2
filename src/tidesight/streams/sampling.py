"""Which frames of a video are looked at."""

import math
from dataclasses import dataclass

from tidesight.errors import ConfigError

_ROUNDING = 1e-6  # timestamps are multiples of a container's tick: 0.2 s at 5 FPS must not fall into slot 0.999...


@dataclass(frozen=True)
class Sampling:
    """Every n-th frame, or so many a second of the video's own time; all by default.

    Attributes:
        every: Take each frame whose index is a multiple of it (>= 1).
        fps: At most so many frames in a second of the video (> 0), or None. By timestamp, so it holds for a variable
            frame rate: the first frame of each interval of 1/fps seconds is taken.

    Raises:
        ConfigError: a value out of its range, or both.
    """

    every: int = 1
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every: expected at least 1, got {self.every}", field="every")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ConfigError(f"fps: expected a number above 0, got {self.fps}", field="fps")
        if self.fps is not None and self.every != 1:
            raise ConfigError("give every or fps, not both", field="fps")


class Sampler:
    """Applies a sampling to frames in the order of their timestamps."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._slot: int | None = None

    def takes(self, index: int, timestamp_s: float) -> bool:
        """Whether the frame is looked at."""
        if self._sampling.fps is None:
            return index % self._sampling.every == 0
        slot = math.floor(timestamp_s * self._sampling.fps + _ROUNDING)
        if slot == self._slot:
            return False
        self._slot = slot
        return True
