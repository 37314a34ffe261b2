"""INT8 by ONNX Runtime's static quantisation, and the decision whether the result may be used.

Some layers lose their meaning in eight bits: one scale for all channels of a depthwise convolution, or for the
stem, wipes out the quiet ones. So several recipes leave more or less of the network in FP32; each is measured, and the
fastest that keeps the accuracy wins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidesight.detection.detector import Detector
from tidesight.detection.image import decode_image
from tidesight.detection.letterbox import Letterbox
from tidesight.training.dataset import Dataset, Sample
from tidesight.training.onnx_file import import_onnx, load_model

if TYPE_CHECKING:
    from onnx import ModelProto

_OPSET = 17  # per-channel scales need 13; every engine we use reads 17


@dataclass(frozen=True)
class Recipe:
    """Which layers stay in FP32.

    Attributes:
        name: What to call it in reports.
        keep: Parts of the network that stay: "predictions" (the last convolutions and what follows them),
            "stem" (the first convolution), "depthwise" (convolutions with one channel per group).
        only_convolutions: Quantise convolutions alone, and leave activations and sums between them.
    """

    name: str
    keep: frozenset[str]
    only_convolutions: bool = False


RECIPES = (
    Recipe("all but predictions", frozenset({"predictions"})),
    Recipe("convolutions but stem, predictions", frozenset({"stem", "predictions"}), only_convolutions=True),
    Recipe(
        "convolutions but stem, predictions, depthwise",
        frozenset({"stem", "predictions", "depthwise"}),
        only_convolutions=True,
    ),
)


@dataclass(frozen=True)
class Trial:
    """One model, measured.

    Attributes:
        name: "FP32" or a recipe's name.
        ap: AP on the data, 0 to 1.
        inference_ms: Median time of the network alone, one picture on one thread.
        size_bytes: Of the file.
        path: The file.
    """

    name: str
    ap: float
    inference_ms: float
    size_bytes: int
    path: Path


def choose(fp32: Trial, trials: Sequence[Trial], max_drop: float) -> Trial | None:
    """The fastest trial whose AP is at most `max_drop` below FP32's, or None when there is none."""
    good = [trial for trial in trials if fp32.ap - trial.ap <= max_drop]
    return min(good, key=lambda trial: trial.inference_ms, default=None)


def quantize(model: Path, samples: Sequence[Sample], recipe: Recipe, out: Path) -> None:
    """Write an INT8 version of a model (QDQ, weights per channel, ranges averaged over the pictures).

    Args:
        model: An FP32 ONNX detector.
        samples: Pictures to calibrate on.
        recipe: What stays in FP32.
        out: File to write.

    Raises:
        ModelError: not a usable model.
        MissingExtra: `onnx` is not installed.
    """
    from onnxruntime import quantization

    with TemporaryDirectory() as folder:
        source = Path(folder) / "prepared.onnx"
        prepared = _prepare(model, source)
        quantization.quantize_static(
            source,
            out,
            _Calibration(Detector.open(model, engine="onnxruntime"), prepared.graph.input[0].name, samples),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=sorted(nodes_to_keep(prepared, recipe.keep)),
            op_types_to_quantize=["Conv"] if recipe.only_convolutions else None,
            extra_options={"CalibMovingAverage": True},
        )


def spread(dataset: Dataset, count: int) -> list[Sample]:
    """`count` samples, evenly spread over the data set."""
    samples = dataset.samples
    picked = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[index] for index in picked]


def inference_ms(detectors: Sequence[Detector], rounds: int = 30) -> list[float]:
    """Median milliseconds of each detector's network, measured in turns so that a busy machine hurts all alike."""
    picture = np.full((64, 64, 3), 114, np.uint8)
    times: list[list[float]] = [[] for _ in detectors]
    for _ in range(rounds):
        for own, detector in zip(times, detectors, strict=True):
            own.append(detector.detect(picture).timings_s["inference"] * 1000)
    return [float(np.median(own[rounds // 10 :])) for own in times]


def nodes_to_keep(model: "ModelProto", parts: frozenset[str]) -> set[str]:
    """Names of the nodes that belong to these parts; see `Recipe.keep`."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    names: set[str] = set()
    if "predictions" in parts:
        names |= _predictions(model)
    if "stem" in parts:
        names.add(convolutions[0].name)
    if "depthwise" in parts:
        names |= {node.name for node in convolutions if any(a.name == "group" and a.i > 1 for a in node.attribute)}
    return names


def _predictions(model: "ModelProto") -> set[str]:
    """Everything from the output back to, and with, the convolutions met first."""
    producer = {output: node for node in model.graph.node for output in node.output}
    names: set[str] = set()
    waiting = [output.name for output in model.graph.output]
    while waiting:
        node = producer.get(waiting.pop())
        if node is None or node.name in names:
            continue
        names.add(node.name)
        if node.op_type != "Conv":
            waiting += node.input
    return names


def _prepare(path: Path, out: Path) -> "ModelProto":
    """Write the model with a recent opset, constants folded, shapes inferred and a name for every node."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    onnx = import_onnx()
    model = load_model(path)
    if model.opset_import[0].version < _OPSET:
        model = onnx.version_converter.convert_version(model, _OPSET)
    onnx.save(model, out)
    quant_pre_process(out, out, skip_symbolic_shape=True)
    prepared: ModelProto = onnx.load(out)
    for number, node in enumerate(prepared.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(prepared, out)
    return prepared


class _Calibration:
    """Pictures as the network sees them, one at a time; what ONNX Runtime calls a calibration data reader."""

    def __init__(self, detector: Detector, input_name: str, samples: Sequence[Sample]) -> None:
        info = detector.model
        self._letterbox = Letterbox(info.input_width_px, info.input_height_px, info.head.input_format, info.dtype)
        self._input_name = input_name
        self._inputs = self._tensors(samples)

    def _tensors(self, samples: Sequence[Sample]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        for sample in samples:
            self._letterbox.fit(decode_image(sample.image.read_bytes()))
            yield {self._input_name: self._letterbox.tensor.copy()}

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._inputs, None)
