"""Self-describing YOLOX files in ONNX: read the convolutions, put trained ones back, say what the file is.

Training changes the convolutions and nothing else, so the trained file is the base's graph with new weights:
every engine that ran the base runs it the same way, and no exporter is involved.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidesight.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from onnx import ModelProto

_BOX_VALUES = 5  # cx, cy, w, h, objectness come before the classes


@dataclass(frozen=True)
class Convolution:
    """Weight (out, in / groups, h, w) and bias (out,), float32."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


def average(start: Sequence[Convolution], trained: Sequence[Convolution], share: float) -> list[Convolution]:
    """Weights on the straight line from the start (share 0) to the trained (share 1).

    Half way, a fine-tuned network keeps most of what it learned and wins back most of what it forgot
    (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
    """
    return [
        Convolution(
            (old.weight + share * (new.weight - old.weight)).astype(np.float32),
            (old.bias + share * (new.bias - old.bias)).astype(np.float32),
        )
        for old, new in zip(start, trained, strict=True)
    ]


def import_onnx() -> Any:
    """The `onnx` package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "train") from None
    return onnx


def load_model(path: Path) -> "ModelProto":
    """Read and check an ONNX file.

    Raises:
        ModelError: it cannot be read or is not valid ONNX.
        MissingExtra: `onnx` is not installed.
    """
    onnx = import_onnx()
    try:
        model: ModelProto = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError:
        raise ModelError(f"no model file {path}") from None
    except Exception as error:  # protobuf and the checker raise their own types
        raise ModelError(f"{path.name}: not a valid ONNX file: {str(error).splitlines()[0]}") from None
    return model


def sha256(path: Path) -> str:
    """Hash of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_convolutions(model: "ModelProto") -> list[Convolution]:
    """All convolutions in graph order, which is the order they are executed in.

    Raises:
        ModelError: a convolution has no bias or its weights are not stored as float32 initialisers.
    """
    arrays = _initializers(model)
    found = []
    for node in _convolution_nodes(model):
        stored = [arrays[name] for name in node.input[1:] if name in arrays]
        if len(stored) != 2 or any(array.dtype != np.float32 for array in stored):
            raise ModelError(f"convolution {node.name or node.output[0]}: expected float32 weights and a bias")
        found.append(Convolution(stored[0], stored[1]))
    return found


def class_count(model: "ModelProto") -> int:
    """Classes of a YOLOX raw-grid model, from the last axis of its output, (1, cells, 5 + classes).

    Raises:
        ModelError: there is not one such output.
    """
    shapes = [[d.dim_value for d in output.type.tensor_type.shape.dim] for output in model.graph.output]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] <= _BOX_VALUES:
        raise ModelError(f"expected a YOLOX model with one output 1xNx(5+classes), got {shapes}")
    return int(shapes[0][2] - _BOX_VALUES)


def input_side_px(model: "ModelProto") -> int:
    """Side of the square input; of one that leaves its size open, what `tidesight.input_size` says.

    Raises:
        ModelError: the input is not (1, 3, side, side).
    """
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    if shape[2:] == [0, 0]:
        shape[2:] = map(int, re.findall(r"\d+", get_metadata(model).get("tidesight.input_size", "")))
    if len(model.graph.input) != 1 or shape[:2] != [1, 3] or len(shape) != 4 or shape[2] != shape[3]:
        raise ModelError(f"expected one input 1x3xSxS, got {shape}")
    return int(shape[2])


def replace_convolutions(
    model: "ModelProto", convolutions: Sequence[Convolution], new_class_count: int
) -> "ModelProto":
    """A copy of the model with other weights, and as many classes as they predict.

    Args:
        model: A YOLOX raw-grid model.
        convolutions: As many as the model has, in graph order.
        new_class_count: Classes that the new weights predict.
    """
    onnx = import_onnx()
    nodes = _convolution_nodes(model)
    if len(nodes) != len(convolutions):
        raise ValueError(f"expected {len(nodes)} convolutions, got {len(convolutions)}")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for node, convolution in zip(nodes, convolutions, strict=True):
        arrays[node.input[1]], arrays[node.input[2]] = convolution.weight, convolution.bias
    before, after = class_count(model) + _BOX_VALUES, new_class_count + _BOX_VALUES
    for name, value in _reshape_targets(model).items():
        arrays[name] = np.where(value == before, after, value)
    changed: ModelProto = onnx.ModelProto()
    changed.CopyFrom(model)
    for initializer in changed.graph.initializer:
        if initializer.name in arrays:
            initializer.CopyFrom(onnx.numpy_helper.from_array(arrays[initializer.name], initializer.name))
    del changed.graph.value_info[:]  # shapes of inner tensors, which may have changed
    changed.graph.output[0].type.tensor_type.shape.dim[-1].dim_value = after
    return changed


def set_metadata(model: "ModelProto", values: Mapping[str, Any]) -> None:
    """Write `tidesight.*` keys, over those of the same name; what is not a string is stored as JSON."""
    texts = {
        f"tidesight.{key}": value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
    }
    kept = {entry.key: entry.value for entry in model.metadata_props}
    import_onnx().helper.set_model_props(model, kept | texts)


def get_metadata(model: "ModelProto") -> dict[str, str]:
    """All metadata of the file."""
    return {entry.key: entry.value for entry in model.metadata_props}


def _convolution_nodes(model: "ModelProto") -> list[Any]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def _initializers(model: "ModelProto") -> dict[str, npt.NDArray[Any]]:
    to_array = import_onnx().numpy_helper.to_array
    return {initializer.name: to_array(initializer) for initializer in model.graph.initializer}


def _reshape_targets(model: "ModelProto") -> dict[str, npt.NDArray[Any]]:
    arrays = _initializers(model)
    names = [node.input[1] for node in model.graph.node if node.op_type == "Reshape"]
    return {name: arrays[name] for name in names if name in arrays}
