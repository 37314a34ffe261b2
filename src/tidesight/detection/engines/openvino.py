"""OpenVINO on CPU: one compiled model, one stream and one infer request per thread.

A file that leaves its size open is compiled for one size, unless a plan cuts the input to the picture: OpenVINO then
works out the whole network anew for each change of shape, which costs as much as the smaller input saves.

Unless a plan says otherwise BF16 is left to OpenVINO's own choice, which is BF16 where the CPU computes in
it. Pinning is off: two pinned processes on one machine land on the same cores and run at half speed.
"""

from pathlib import Path

import numpy as np
import openvino as ov

from tidesight.detection.engines import Runner, RunPlan, Signature, Tensor, TensorSpec
from tidesight.detection.model import input_size
from tidesight.errors import ModelError

_MOST_TENSORS = 64  # a detector has one memory, in as many shapes as pictures have
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}


def load(path: Path, threads: int, plan: RunPlan) -> "OpenVinoEngine":
    """Load a model; see `tidesight.detection.engines.load_engine`."""
    return OpenVinoEngine(path, threads, plan)


class OpenVinoEngine:
    """A model file compiled by OpenVINO."""

    compiles_shapes = True

    def __init__(self, path: Path, threads: int, plan: RunPlan) -> None:
        settings: dict[str, object] = {
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads * plan.threads_each,
            "ENABLE_CPU_PINNING": False,
        }
        if plan.precision != "auto":
            settings["INFERENCE_PRECISION_HINT"] = _PRECISIONS[plan.precision]
        try:
            model = ov.Core().read_model(str(path))
            self.signature = Signature(
                tuple(map(_spec, model.inputs)), tuple(map(_spec, model.outputs)), _metadata(model)
            )
            _fix_shape(model, self._size(path, plan))
            self._compiled = ov.Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")[:200]
            raise ModelError(f"{path.name}: OpenVINO cannot load it: {reason}") from error

    def _size(self, path: Path, plan: RunPlan) -> tuple[int, int] | None:
        """(width, height) to compile for; None leaves open what is."""
        shape = self.signature.inputs[0].shape
        if plan.margin_px is not None or len(shape) != 4 or None not in shape[2:]:
            return None
        return input_size(path, self.signature, plan)

    def runner(self) -> Runner:
        """An infer request for one more thread."""
        request = self._compiled.create_infer_request()
        # Each memory that is run on becomes OpenVINO's tensor once. To make one a run, as `infer(tensor)` does, costs
        # time, and two threads that did it at once were seen to wait for each other for good (2026.4).
        known: dict[tuple[int, tuple[int, ...]], ov.Tensor] = {}

        def run(tensor: Tensor) -> list[Tensor]:
            key = tensor.ctypes.data, tensor.shape
            if key not in known:
                if len(known) >= _MOST_TENSORS:
                    known.clear()
                known[key] = ov.Tensor(tensor, shared_memory=True)
            request.set_input_tensor(known[key])
            results = request.infer(share_outputs=True)
            return [np.asarray(output) for output in results.values()]

        return run


def _fix_shape(model: ov.Model, size_px: tuple[int, int] | None) -> None:
    shape = model.inputs[0].get_partial_shape()
    if not shape.rank.is_static or len(shape) != 4:
        return
    width, height = size_px or (None, None)
    fixed = [1, None, height, width]  # one picture a run
    wanted = {axis: size for axis, size in enumerate(fixed) if size and shape[axis].is_dynamic}
    if wanted:
        for axis, size in wanted.items():
            shape[axis] = size
        model.reshape({model.inputs[0].get_any_name(): shape})


def _spec(port: "ov.Output") -> TensorSpec:
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
    name = port.get_any_name() if port.get_names() else "?"
    kind = port.get_element_type().get_type_name()
    return TensorSpec(name, shape, _DTYPES.get(kind, kind))


def _metadata(model: ov.Model) -> dict[str, str]:
    """The ONNX file's metadata, which OpenVINO keeps as run-time info under "framework"."""
    if not model.has_rt_info(["framework"]):
        return {}
    info = model.get_rt_info(["framework"]).value
    return {str(key): str(value) for key, value in info.items()}
