"""The model that comes with the package."""

from pathlib import Path

EMBEDDED = "yolox-nano-coco128.onnx"


def embedded_model() -> Path:
    """Its path."""
    return Path(__file__).parent / "weights" / EMBEDDED
