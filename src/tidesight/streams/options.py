"""What may be chosen about frames and the fleet they go to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidesight.errors import ConfigError
from tidesight.streams.jpeg import DEFAULT_QUALITY
from tidesight.streams.limit import LimitSettings
from tidesight.streams.sampling import Sampling


@dataclass(frozen=True)
class FleetOptions:
    """How to ask.

    Attributes:
        urls: Of a fleet, or of instances; at least one. A request that failed at one goes to another.
        api_key: Sent as a bearer token, or empty. Not shown.
        query: Options of a detection, as `/v1/detect` has them: confidence, iou, max_detections, classes.
        deadline_s: For an answer; the fleet refuses what it could not answer in time.
        patience_s: Without any answer for so long, the fleet is taken to be gone.
        attempts: Of one frame that fails while others are answered.
        limit: Bounds of the number in flight.

    Raises:
        ConfigError: no URL, or one that is not http(s).
    """

    urls: tuple[str, ...]
    api_key: str = field(default="", repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    deadline_s: float = 10.0
    patience_s: float = 60.0
    attempts: int = 4
    limit: LimitSettings = field(default_factory=LimitSettings)

    def __post_init__(self) -> None:
        if not self.urls or not all(url.startswith(("http://", "https://")) for url in self.urls):
            raise ConfigError(f"url: expected http://... or https://..., got {', '.join(self.urls)!r}", field="url")


@dataclass(frozen=True)
class DetectVideoOptions:
    """What is looked at, and how it is sent.

    Attributes:
        sampling: Which frames.
        longest_px: Longer side of the pictures sent; 0 is in full, None what the fleet's network takes.
        quality: Of the JPEGs sent, 1 to 100.
        window: Frames that may be read and not yet given out; bounds the memory.
    """

    sampling: Sampling = field(default_factory=Sampling)
    longest_px: int | None = None
    quality: int = DEFAULT_QUALITY
    window: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality: expected 1 to 100, got {self.quality}", field="quality")
        if self.window < 1:
            raise ConfigError(f"window: expected at least 1, got {self.window}", field="window")
        if self.longest_px is not None and self.longest_px < 0:
            raise ConfigError(f"send_px: expected 0 or more, got {self.longest_px}", field="send_px")
