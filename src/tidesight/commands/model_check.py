"""Does a model work? It may load, have the right shapes, and still find nothing on any picture."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from tidesight.detection.engines import RunPlan
from tidesight.errors import ModelError, TidesightError

if TYPE_CHECKING:
    from tidesight.detection.detector import Detector
    from tidesight.detection.image import Pixels

_PROBE_GRAINS = (8, 32, 128)  # sides of the noise that is enlarged to a picture, in pixels
_SILENT = 1e-5  # a sound detector scores noise low, but never like this


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, "ok", "note" or "wrong", and what was seen."""

    name: str
    verdict: str
    seen: str


def check_model(
    model: Path | None, labels: Path | None, picture: Path | None, engine: str = "auto", plan: RunPlan | None = None
) -> Iterator[Check]:
    """Load a model, run it on made-up pictures and, when given, on a real one."""
    from tidesight.detection.detector import Detector

    try:
        detector = Detector.open(model, engine=engine, labels=labels, plan=plan)
        with _engine_errors():
            detector.warm_up()
    except TidesightError as error:
        yield Check("model", "wrong", error.detail)
        return
    info = detector.model
    cut = "" if detector.plan.margin_px is None else " cut to the picture"
    size = f"{info.input_width_px}x{info.input_height_px}{cut}"
    yield Check("model", "ok", f"{info.name}: {info.head.name} head, {size}, {len(info.class_names)} classes")
    yield _names(info.class_names, info.metadata, labels)
    yield _self_check(detector)
    if picture is not None:
        yield _on_picture(detector, picture)


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except (TidesightError, OSError):
        raise
    except Exception as error:  # each library raises its own types
        raise ModelError(f"loads, but fails on a picture: {' '.join(str(error).split())}") from error


def _names(names: tuple[str, ...], metadata: Mapping[str, str], labels: Path | None) -> Check:
    from tidesight.detection.model import declared_names

    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    declared = declared_names(metadata)
    if labels is not None or names == declared:
        return Check("class names", "ok", shown)
    said = f"{len(declared)} for {len(names)} classes, which are ignored" if declared else "none"
    return Check("class names", "note", f"the file names {said}; used: {shown} (give --labels FILE for others)")


def _self_check(detector: "Detector") -> Check:
    """Scores on made-up pictures: they need not be high, but they must be alive."""
    from tidesight.detection.detector import DetectOptions

    everything = DetectOptions(confidence=0.0, iou=1.0)
    highest, seconds = 0.0, []
    for picture in _probes():
        try:
            with _engine_errors():
                found = detector.detect(picture, everything)
        except TidesightError as error:
            return Check("self-check", "wrong", error.detail)
        highest = max(highest, float(found.scores.max(initial=0.0)))
        seconds.append(found.timings_s["inference"])
    if highest < _SILENT:
        seen = f"loads, but finds nothing: its highest score on {len(_PROBE_GRAINS)} probe pictures is {highest:g}. "
        return Check("self-check", "wrong", seen + "Its export or quantisation is broken; export it again")
    return Check("self-check", "ok", f"scores respond (highest {highest:.3f} on noise); {median(seconds) * 1e3:.0f} ms")


def _on_picture(detector: "Detector", picture: Path) -> Check:
    try:
        with _engine_errors():
            found = detector.detect(picture.read_bytes())
    except (OSError, TidesightError) as error:
        return Check("picture", "wrong", f"{picture}: {error}")
    if not len(found):
        return Check("picture", "wrong", f"nothing found in {picture.name} at confidence 0.25")
    return Check("picture", "ok", ", ".join(f"{one.label} {one.score:.2f}" for one in list(found)[:5]))


def _probes() -> "Iterator[Pixels]":
    """Smooth noise of several grains, which resembles pictures more than white noise does."""
    import cv2

    random = np.random.default_rng(0)
    for side_px in _PROBE_GRAINS:
        grain = random.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
        yield cv2.resize(grain, (640, 480), interpolation=cv2.INTER_CUBIC)  # type: ignore[misc]
