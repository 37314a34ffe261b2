"""Make the input height and width of an ONNX detector open, so that one file runs at any size and shape.

Convolutions do not care. What an export may have baked for one size is its grid: constants with one entry for each
cell. YOLOX leaves the grid to the head's decoding; an Ultralytics export holds the cells' centres and strides as
constants, and shapes with their number, which are replaced by a sub-graph that computes them from the input. Anything
else is refused: the result has to give the same answer at the native size, and as many cells as a size asks for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidesight.detection.letterbox import STRIDE_PX
from tidesight.errors import ModelError
from tidesight.training.onnx_file import get_metadata, import_onnx, load_model, set_metadata

if TYPE_CHECKING:
    from onnx import ModelProto

_STRIDES_PX = (8, 16, 32)
_STRIDES_P6_PX = (*_STRIDES_PX, 64)
_TOLERANCE = 1e-3  # of the largest output: the same sums in another order
Array = npt.NDArray[Any]


def free_size(source: Path, out: Path) -> None:
    """Write a version of a model whose input size is open; its native size goes into the metadata.

    Raises:
        ModelError: something in the model holds for one size only.
        MissingExtra: `onnx` is not installed.
    """
    onnx = import_onnx()
    model = load_model(source)
    sizes = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    if len(sizes) != 4 or sizes[2] <= 0 or sizes[3] <= 0:
        raise ModelError(f"{source.name}: its input size is open already, or is not that of a picture")
    height, width = sizes[2], sizes[3]
    _open_shapes(model, width, height)
    _replace_grid(model, width, height)
    if "tidesight.input_size" not in get_metadata(model):
        set_metadata(model, {"input_size": f"{height}x{width}"})
    onnx.save(model, out)
    try:
        _prove(source, out, width, height)
    except ModelError:
        out.unlink()
        raise


def _open_shapes(model: "ModelProto", width: int, height: int) -> None:
    picture = model.graph.input[0].type.tensor_type.shape.dim
    for axis, name in ((2, "height"), (3, "width")):
        picture[axis].Clear()
        picture[axis].dim_param = name
    for output in model.graph.output:
        for dimension in output.type.tensor_type.shape.dim[1:]:
            if dimension.dim_value in (_cells(width, height, _STRIDES_PX), _cells(width, height, _STRIDES_P6_PX)):
                dimension.Clear()
                dimension.dim_param = "cells"
    del model.graph.value_info[:]  # shapes of inner tensors


def _replace_grid(model: "ModelProto", width: int, height: int) -> None:
    """Put computed values in the place of constants that hold the grid of the native size."""
    to_array = import_onnx().numpy_helper.to_array
    cells = _cells(width, height, _STRIDES_PX)
    grid = _Grid(model, width, height)
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for initializer in list(model.graph.initializer):
        value = to_array(initializer)
        if initializer.name in targets:
            computed = grid.target(initializer.name, value, cells)
        elif value.dtype.kind == "f" and value.ndim and value.shape[-1] == cells:
            computed = grid.constant(initializer.name, value)
        else:
            continue
        if computed:
            model.graph.initializer.remove(initializer)
    grid.insert()


def _cells(width: int, height: int, strides_px: tuple[int, ...]) -> int:
    return sum((width // stride) * (height // stride) for stride in strides_px)


class _Grid:
    """The sub-graph that computes what depends on the size, grown as it is needed."""

    def __init__(self, model: "ModelProto", width: int, height: int) -> None:
        self._model = model
        self._size = {"w": width, "h": height}
        self._centres, self._strides = _native_grid(width, height)
        self._nodes: list[Any] = []
        self._made: set[str] = set()

    def target(self, name: str, value: Array, cells: int) -> bool:
        """Replace the target shape of a Reshape, where it holds a number of cells."""
        sizes = value.tolist()
        per_stride = {(self._size["h"] // s, self._size["w"] // s): s for s in _STRIDES_PX}
        if -1 in sizes or not sizes:
            return False
        if sizes[-1] == cells or (len(sizes) >= 3 and sizes[-1] in {h * w for h, w in per_stride}):
            self._constant(name, np.array([*sizes[:-1], -1], np.int64))
            return True
        stride = per_stride.get(tuple(sizes[-2:])) if len(sizes) == 4 else None
        if stride is None:
            return False
        self._sides(stride)
        self._constant(f"{name}_kept", np.array(sizes[:-2], np.int64))
        self._node("Concat", [f"{name}_kept", f"size_hw{stride}"], name, axis=0)
        return True

    def constant(self, name: str, value: Array) -> bool:
        """Replace the cells' centres or strides, whichever the constant is.

        Raises:
            ModelError: it is neither, but has one entry for each cell.
        """
        for made, native in (("size_centres", self._centres), ("size_strides", self._strides)):
            if value.size == native.size and np.allclose(value.reshape(native.shape), native):
                self._whole_grid()
                self._constant(f"{name}_shape", np.array([*value.shape[:-1], -1], np.int64))
                self._node("Reshape", [made, f"{name}_shape"], name)
                return True
        raise ModelError(f"the constant {name} {list(value.shape)} holds something for each cell of one size")

    def insert(self) -> None:
        """Put the nodes before all others, which is where their results are first needed."""
        others = list(self._model.graph.node)
        del self._model.graph.node[:]
        self._model.graph.node.extend([*self._nodes, *others])

    def _whole_grid(self) -> None:
        if "size_centres" in self._made:
            return
        for stride in _STRIDES_PX:
            self._cells(stride)
        self._node("Concat", [f"size_xy{s}" for s in _STRIDES_PX], "size_centres", axis=1)
        self._node("Concat", [f"size_s{s}" for s in _STRIDES_PX], "size_strides", axis=1)

    def _cells(self, stride: int) -> None:
        """Centres (2, cells) and strides (1, cells) of one level, in cells and pixels."""
        self._sides(stride)
        for number, name in enumerate((0, 1)):
            self._constant(f"size_{name}i", np.array(number, np.int64))
        self._constant("size_half", np.array(0.5, np.float32))
        self._constant(f"size_{stride}f", np.array([[stride]], np.float32))
        self._constant("size_row", np.array([1, -1], np.int64))
        for axis, index, shape in (("h", "size_0i", [-1, 1]), ("w", "size_1i", [1, -1])):
            line = f"size_{axis}{stride}"
            self._constant(f"size_{axis}_shape", np.array(shape, np.int64))
            self._node("Gather", [f"size_hw{stride}", index], f"{line}_count")
            self._node("Range", ["size_0i", f"{line}_count", "size_1i"], f"{line}_whole")
            self._node("Cast", [f"{line}_whole"], f"{line}_number", to=1)
            self._node("Add", [f"{line}_number", "size_half"], f"{line}_centre")
            self._node("Reshape", [f"{line}_centre", f"size_{axis}_shape"], f"{line}_line")
            self._node("Expand", [f"{line}_line", f"size_hw{stride}"], f"{line}_plane")
            self._node("Reshape", [f"{line}_plane", "size_row"], f"{line}_row")
        self._node("Concat", [f"size_w{stride}_row", f"size_h{stride}_row"], f"size_xy{stride}", axis=0)
        self._node("Shape", [f"size_h{stride}_row"], f"size_s{stride}_shape")
        self._node("Expand", [f"size_{stride}f", f"size_s{stride}_shape"], f"size_s{stride}")

    def _sides(self, stride: int) -> None:
        """(height, width) in cells of this stride."""
        picture = self._model.graph.input[0].name
        self._constant("size_axes", np.array([2, 3], np.int64))
        self._constant(f"size_{stride}", np.array([stride], np.int64))
        self._node("Shape", [picture], "size_shape")
        self._node("Gather", ["size_shape", "size_axes"], "size_hw")
        self._node("Div", ["size_hw", f"size_{stride}"], f"size_hw{stride}")

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        if output not in self._made:
            self._made.add(output)
            node = import_onnx().helper.make_node(kind, inputs, [output], f"{output}_node", **attributes)
            self._nodes.append(node)

    def _constant(self, name: str, value: Array) -> None:
        tensor = import_onnx().numpy_helper.from_array(value, f"{name}_value")
        self._node("Constant", [], name, value=tensor)


def _native_grid(width: int, height: int) -> tuple[Array, Array]:
    centres, strides = [], []
    for stride in _STRIDES_PX:
        y, x = np.mgrid[: height // stride, : width // stride] + 0.5
        centres.append(np.stack([x.ravel(), y.ravel()]))
        strides.append(np.full((1, x.size), stride, np.float32))
    return np.concatenate(centres, axis=1).astype(np.float32), np.concatenate(strides, axis=1)


def _prove(source: Path, opened: Path, width: int, height: int) -> None:
    """Run both at the native size, and the open one at another.

    Raises:
        ModelError: it fails, or the answers differ.
    """
    from tidesight.detection.engines import load_engine

    dtype = load_engine("onnxruntime", source).signature.inputs[0].dtype
    picture = np.random.default_rng(0).uniform(0, 1, (1, 3, height, width)).astype(dtype)
    smaller = np.ascontiguousarray(picture[:, :, : max(STRIDE_PX, height // 64 * STRIDE_PX)])
    try:
        run = load_engine("onnxruntime", opened).runner()
        (before,), (after,) = load_engine("onnxruntime", source).runner()(picture), run(picture)
        (other,) = run(smaller)
    except ModelError:
        raise
    except Exception as error:  # the library raises its own types
        raise ModelError(f"fails at another size: {' '.join(str(error).split())[:200]}") from None
    if not np.allclose(before, after, atol=_TOLERANCE * float(np.abs(before).max())):
        raise ModelError("answers otherwise once its size is open")
    share = smaller.shape[2] / height
    as_many = 1.0 if before.shape[-1] == 6 and other.shape == before.shape else share  # end-to-end: the best so many
    if not 0.5 < max(other.shape) / (as_many * max(before.shape)) < 1.5:
        raise ModelError(f"gives {list(other.shape)} for an input of {width}x{smaller.shape[2]}")
