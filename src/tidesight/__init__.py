"""Tidesight: serve a YOLO detector, autoscale it, and measure what each choice costs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidesight.detection.annotate import annotate
    from tidesight.detection.detections import Detections
    from tidesight.detection.detector import DetectOptions, Detector

__version__ = "0.1.0"
__all__ = ["DetectOptions", "Detections", "Detector", "__version__", "annotate"]

_EXPORTS = {
    "Detector": "tidesight.detection.detector",
    "DetectOptions": "tidesight.detection.detector",
    "Detections": "tidesight.detection.detections",
    "annotate": "tidesight.detection.annotate",
}


def __getattr__(name: str) -> Any:
    """Load an exported name on first use, so that `import tidesight` costs nothing at start-up."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tidesight' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_EXPORTS[name]), name)
