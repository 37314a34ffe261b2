"""Real photographs for a demo: those an installed package brings, and the optional assets."""

from dataclasses import dataclass
from pathlib import Path

from tidesight.detection.image import Pixels, decode_image

# Photographs in scikit-image's own package data (no download); licences in its data/README.txt.
_SCIKIT_IMAGE = ("astronaut", "chelsea", "coffee")
_ASSETS = ("coco128/images/train2017", "media")


@dataclass(frozen=True)
class Photograph:
    """A photograph: its name and its pixels, uint8 (h, w, 3) BGR."""

    name: str
    pixels: Pixels


def photographs(assets: Path) -> list[Photograph]:
    """What there is, packages first.

    Args:
        assets: Folder of optional assets; need not exist.
    """
    return [*_from_scikit_image(), *_from_assets(assets)]


def _from_scikit_image() -> list[Photograph]:
    try:
        from skimage import data
    except ImportError:
        return []
    return [Photograph(name, getattr(data, name)()[:, :, ::-1].copy()) for name in _SCIKIT_IMAGE]


def _from_assets(assets: Path) -> list[Photograph]:
    files = [file for folder in _ASSETS for file in sorted((assets / folder).glob("*.jpg"))[:6]]
    return [Photograph(file.name, decode_image(file.read_bytes()).pixels) for file in files]
