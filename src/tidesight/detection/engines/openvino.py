"""OpenVINO on CPU: one compiled model, one stream and one infer request per thread.

BF16 is left to OpenVINO's own choice, which is BF16 where the CPU computes in it. Pinning is off: two
pinned processes on one machine land on the same cores and run at half speed.
"""

from pathlib import Path

import numpy as np
import openvino as ov

from tidesight.detection.engines import Runner, Signature, Tensor, TensorSpec
from tidesight.errors import ModelError

_DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}


def load(path: Path, threads: int) -> "OpenVinoEngine":
    """Load a model; see `tidesight.detection.engines.load_engine`."""
    return OpenVinoEngine(path, threads)


class OpenVinoEngine:
    """A model file compiled by OpenVINO."""

    def __init__(self, path: Path, threads: int) -> None:
        settings = {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        try:
            model = ov.Core().read_model(str(path))
            self._fix_batch(model)
            self._compiled = ov.Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")[:200]
            raise ModelError(f"{path.name}: OpenVINO cannot load it: {reason}") from error
        self.signature = Signature(tuple(map(_spec, model.inputs)), tuple(map(_spec, model.outputs)), _metadata(model))

    @staticmethod
    def _fix_batch(model: ov.Model) -> None:
        # One picture a run: a batch axis left open would cost a dynamic-shape plan each time.
        shape = model.inputs[0].get_partial_shape()
        if shape.rank.is_static and len(shape) and shape[0].is_dynamic:
            shape[0] = 1
            model.reshape({model.inputs[0].get_any_name(): shape})

    def runner(self) -> Runner:
        """An infer request for one more thread."""
        request = self._compiled.create_infer_request()

        def run(tensor: Tensor) -> list[Tensor]:
            results = request.infer({0: tensor}, share_inputs=True, share_outputs=True)
            return [np.asarray(output) for output in results.values()]

        return run


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
