"""One detector: picture in, detections out. Reads top to bottom in the order the work is done."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import numpy.typing as npt

from tidesight.detection import letterbox
from tidesight.detection.detections import Detections
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import DEFAULT_PLAN, Engine, RunPlan, load_engine
from tidesight.detection.heads import Candidates, Floats, Head, suppress, take_best
from tidesight.detection.image import DecodedImage, ImageLimits, Pixels, decode_image
from tidesight.detection.letterbox import Letterbox, Placement
from tidesight.detection.model import ModelInfo, describe
from tidesight.detection.probe import USUAL_MARGIN_PX, output_shapes, see_narrow
from tidesight.errors import InvalidOption

# Of cameras and screens: 1:1, 4:3, 3:2, 16:9, upright too.
_USUAL_SHAPES = ((64, 64), (64, 48), (48, 64), (96, 64), (64, 96), (128, 72), (72, 128))


@dataclass(frozen=True)
class DetectOptions:
    """What to look for.

    Attributes:
        confidence: Least score, 0 to 1.
        iou: Boxes of one class that overlap by more than this are one object, 0 to 1.
        max_detections: At most this many, the best first; >= 1.
        classes: Class ids to keep, or None for all.
    """

    confidence: float = 0.25
    iou: float = 0.5
    max_detections: int = 100
    classes: frozenset[int] | None = None


class Detector:
    """A model ready to detect; belongs to one thread (see `clone`).

    Attributes:
        model: What it is.
        plan: How it is run.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelInfo,
        limits: ImageLimits = ImageLimits(),
        plan: RunPlan = DEFAULT_PLAN,
    ) -> None:
        self.model = model
        self._engine = engine
        self._limits = limits
        self.plan = plan
        self._run = engine.runner()
        size = model.input_width_px, model.input_height_px
        self._letterbox = Letterbox(*size, model.head.input_format, model.dtype, plan.margin_px)
        self._heads: dict[tuple[int, int], Head] = {size: model.head}

    @classmethod
    def open(
        cls,
        model: Path | str | None = None,
        *,
        engine: str = "auto",
        labels: Path | None = None,
        threads: int = 1,
        limits: ImageLimits = ImageLimits(),
        plan: RunPlan | None = None,
    ) -> "Detector":
        """Load a model file; see `detection/heads.py` for the kinds that are recognised.

        OpenCV's own threads are turned off for the whole process: each detector uses one CPU.

        Args:
            model: The ONNX file; None is the model that comes with the package.
            engine: "auto", "onnxruntime", "openvino" or "fake".
            labels: A file with one class name per line; None takes the model's own names.
            threads: How many detectors (this one and its clones) will run at the same time.
            limits: What a picture may be at most.
            plan: How to run the model. None cuts the input to the picture where the file leaves its size open and the
                engine gains by it (see `probe.see_narrow`); `RunPlan()` pads every picture to a square.

        Raises:
            ModelError: the file cannot be loaded or is not a supported detector.
            MissingExtra: the engine is not installed.
            ConfigError: no such engine, or labels that do not fit.
        """
        path = embedded_model() if model is None else Path(model)
        return cls.of_engine(load_engine(engine, path, threads, plan or DEFAULT_PLAN), path, labels, limits, plan)

    @classmethod
    def of_engine(
        cls,
        engine: Engine,
        path: Path,
        labels: Path | None = None,
        limits: ImageLimits = ImageLimits(),
        plan: RunPlan | None = None,
    ) -> "Detector":
        """A detector on a model file that an engine has loaded; see `open`."""
        cv2.setNumThreads(1)  # its pool follows the host's CPUs, not a quota; work is divided by pictures here
        narrow = see_narrow(engine, path) if plan is None else None
        if plan is None:
            plan = RunPlan(margin_px=USUAL_MARGIN_PX) if narrow else DEFAULT_PLAN
        shapes, size_px = narrow or (output_shapes(engine, path, plan), None)
        return cls(engine, describe(path, engine.signature, shapes, labels, plan, size_px), limits, plan)

    def clone(self, limits: ImageLimits | None = None) -> "Detector":
        """The same detector for another thread; the engine shares what it can.

        Args:
            limits: What a picture may be at most; None keeps this one's.
        """
        return Detector(self._engine, self.model, limits or self._limits, self.plan)

    def for_threads(self, count: int) -> list["Detector"]:
        """This detector and its clones, one for each of `count` threads (>= 1)."""
        return [self, *(self.clone() for _ in range(count - 1))]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes of the model."""
        return self.model.class_names

    def warm_up(self) -> None:
        """Run on a grey picture, so that the first caller does not pay for lazy set-up.

        Where the input follows the picture and the engine prepares each size, on one of each usual shape.
        """
        each = self.plan.margin_px is not None and self._engine.compiles_shapes
        for width_px, height_px in _USUAL_SHAPES if each else _USUAL_SHAPES[:1]:
            self.detect(np.full((height_px, width_px, 3), letterbox.PAD_VALUE, np.uint8))

    def detect(self, image: bytes | Pixels, options: DetectOptions = DetectOptions()) -> Detections:
        """Find objects in a picture.

        Args:
            image: An encoded JPEG, PNG or WebP, or pixels: uint8 (h, w, 3), BGR.
            options: What to look for.

        Raises:
            BadImage, TooLarge, UnsupportedType: the picture cannot be used.
        """
        started = perf_counter()
        if isinstance(image, np.ndarray):
            decoded = _checked(image)
        else:
            enough = (self.model.input_width_px, self.model.input_height_px)
            decoded = decode_image(image, self._limits, enough)
        decoded_at = perf_counter()
        placement = self._letterbox.fit(decoded)
        placed_at = perf_counter()
        output = self._run(self._letterbox.tensor)[0][0]
        inferred_at = perf_counter()
        best = self._select(output.astype(np.float32, copy=False), self._head(placement), options)
        boxes = placement.to_picture(best.boxes)
        best = best._replace(boxes=boxes).at(_have_area(boxes))  # some lie wholly in the padding
        finished = perf_counter()
        timings = {
            "decode": decoded_at - started,
            "preprocess": placed_at - decoded_at,
            "inference": inferred_at - placed_at,
            "postprocess": finished - inferred_at,
        }
        size = (decoded.width_px, decoded.height_px)
        return Detections(*best, self.class_names, *size, timings)

    def _head(self, placement: Placement) -> Head:
        """The head for the input that the picture was placed in; there are few sizes, as sides are multiples of 32."""
        size = placement.input_width_px, placement.input_height_px
        if size not in self._heads:
            self._heads[size] = self.model.head.at_size(*size)
        return self._heads[size]

    def _select(self, output: Floats, head: Head, options: DetectOptions) -> Candidates:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is dropped below
            found = head.decode(output, options.confidence)
        # A broken export may hold NaN, boxes inside out, or ids without a name; none of them is an object.
        sound = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores) & _have_area(found.boxes)
        sound &= (found.class_ids >= 0) & (found.class_ids < len(self.class_names))
        if options.classes is not None:
            sound &= np.isin(found.class_ids, list(options.classes))
        found = found.at(sound)
        if head.needs_nms:
            return suppress(found, options.iou, options.max_detections)
        return take_best(found, np.arange(len(found.scores)), options.max_detections)


def _have_area(boxes: Floats) -> npt.NDArray[np.bool_]:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def class_ids(wanted: Iterable[str | int], class_names: tuple[str, ...]) -> frozenset[int]:
    """Ids of classes given by name or by id (a number, or its text).

    Raises:
        InvalidOption: there is no such class.
    """
    return frozenset(_class_id(one, class_names) for one in wanted)


def _class_id(wanted: str | int, class_names: tuple[str, ...]) -> int:
    if isinstance(wanted, str) and wanted in class_names:
        return class_names.index(wanted)
    text = str(wanted)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else -1
    if not 0 <= number < len(class_names):
        known = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
        raise InvalidOption(f"no class {text[:80]!r}; the model knows {len(class_names)}: {known}", field="classes")
    return number


def _checked(pixels: Pixels) -> DecodedImage:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"expected uint8 pixels (h, w, 3), got {pixels.dtype} {pixels.shape}")
    return DecodedImage(pixels, pixels.shape[1], pixels.shape[0])
