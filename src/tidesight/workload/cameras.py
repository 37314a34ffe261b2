"""Cameras that come and go, as the load of a scenario."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tidesight.errors import ConfigError


@dataclass(frozen=True)
class Cameras:
    """A few cameras throughout, and more of them for a while.

    Each frame counts from when it was captured, and is of no use once it is older than the scenario's objective.

    Attributes:
        cameras: How many there are at most.
        least: How many there are at first and in the end.
        fps: Frames of each that are looked at in a second, if the fleet takes them.
        up_s: When the others begin to come; None is after a third of the duration.
        down_s: When they begin to go; None is after two thirds; beyond the end is never.
        within_s: They come, and go, one by one, all within so long.
        video: File that each plays as live; None is one made of the scenario's pictures.

    Raises:
        ConfigError: a figure out of range.
    """

    cameras: int
    least: int = 0
    fps: float = 5.0
    up_s: float | None = None
    down_s: float | None = None
    within_s: float = 2.0
    video: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.cameras or self.cameras < 1:
            told = f"expected at least 1 camera, and from 0 to that many at least; got {self.cameras} and {self.least}"
            raise ConfigError(f"cameras, least: {told}", field="cameras")
        if not 0 < self.fps < float("inf"):
            raise ConfigError(f"fps: expected frames a second above 0, got {self.fps:g}", field="fps")
        if not 0 <= self.within_s < float("inf"):
            raise ConfigError(f"within_s: expected at least 0 s, got {self.within_s:g}", field="within_s")

    def names(self) -> list[str]:
        """Of all cameras; the first `least` of them stay."""
        return [f"camera{number:02}" for number in range(1, self.cameras + 1)]

    def changes(self, duration_s: float, seed: int) -> Iterator[tuple[float, str, bool]]:
        """What happens when, in order: seconds from the start, a camera, and whether it comes (or goes).

        The times of those that stay are spread too, over the time between two frames: cameras take theirs in no step.

        Args:
            duration_s: What would happen later is left out.
            seed: Of the times.

        Raises:
            ConfigError: they would go before they come.
        """
        random, names = Random(seed), self.names()  # noqa: S311 - times, no secrets
        up_s, down_s = self._times_s(duration_s)
        found = [(random.uniform(0, 1 / self.fps), name, True) for name in names[: self.least]]
        for name in names[self.least :]:
            found += [
                (up_s + random.uniform(0, self.within_s), name, True),
                (max(down_s, up_s + self.within_s) + random.uniform(0, self.within_s), name, False),
            ]
        yield from sorted(change for change in found if change[0] < duration_s)

    def _times_s(self, duration_s: float) -> tuple[float, float]:
        up_s = duration_s / 3 if self.up_s is None else self.up_s
        down_s = 2 * duration_s / 3 if self.down_s is None else self.down_s
        if not 0 <= up_s <= down_s:
            told = f"expected at least 0, and not to go before they come; got {up_s:g} and {down_s:g}"
            raise ConfigError(f"up_s, down_s: {told}", field="up_s")
        return up_s, down_s
