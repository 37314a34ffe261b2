"""Video files and cameras over a fleet: frames out, detections back, in order or as fresh as can be."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidesight.streams.in_video import detect_video
    from tidesight.streams.options import DetectVideoOptions, FleetOptions
    from tidesight.streams.sampling import Sampling
    from tidesight.streams.video_frames import VideoFrame

__all__ = ["DetectVideoOptions", "FleetOptions", "Sampling", "VideoFrame", "detect_video"]

_EXPORTS = {
    "detect_video": "tidesight.streams.in_video",
    "DetectVideoOptions": "tidesight.streams.options",
    "FleetOptions": "tidesight.streams.options",
    "Sampling": "tidesight.streams.sampling",
    "VideoFrame": "tidesight.streams.video_frames",
}


def __getattr__(name: str) -> Any:
    """Load an exported name on first use: `import tidesight.streams` needs no optional package."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tidesight.streams' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_EXPORTS[name]), name)
