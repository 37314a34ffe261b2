"""ONNX Runtime on CPU: one session, by default of one thread, run by as many callers as there are CPUs.

A run then uses the caller's thread and nothing else: no pool to oversubscribe a quota, no spinning
against a neighbour. Callers that share a session finish as many pictures as callers with one each, and
the second session's load time and memory are saved (figures: `benchmarks/README.md`). A plan may spread
one picture over more threads, which do not spin either.
"""

import os
from pathlib import Path

# From 1.29 on the library reports usage to its maker unless told not to before it is imported; a server of somebody's
# pictures does not, and its thread would be one more that a quota is shared with.
os.putenv("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from tidesight.detection.engines import Runner, RunPlan, Signature, Tensor, TensorSpec
from tidesight.errors import ModelError

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_FATAL_ONLY = 4  # errors arrive as exceptions; the library's own log lines would only repeat them


def load(path: Path, threads: int, plan: RunPlan) -> "OnnxRuntimeEngine":
    """Load a model; see `tidesight.detection.engines.load_engine`."""
    return OnnxRuntimeEngine(path, plan)


class OnnxRuntimeEngine:
    """A model file opened by ONNX Runtime."""

    compiles_shapes = False

    def __init__(self, path: Path, plan: RunPlan) -> None:
        if plan.precision == "bf16":
            raise ModelError("ONNX Runtime computes in the file's own precision on a CPU; BF16 needs OpenVINO")
        options = ort.SessionOptions()
        options.intra_op_num_threads = plan.threads_each
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        # The arena hands out what a run gave back anyway. A plan of which tensor may lie in whose place is work at load
        # (much of it where the input's size is open) for no less memory: figures in docs/decisions.
        options.enable_mem_reuse = False
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises several unrelated types, some of them bare
            reason = str(error).strip().splitlines()[0][:200]
            raise ModelError(f"{path.name}: ONNX Runtime cannot load it: {reason}") from error
        self.signature = Signature(
            tuple(map(_spec, self._session.get_inputs())),
            tuple(map(_spec, self._session.get_outputs())),
            dict(self._session.get_modelmeta().custom_metadata_map),
        )

    def runner(self) -> Runner:
        """The session, which any number of threads may run at the same time."""
        session, name = self._session, self.signature.inputs[0].name

        def run(tensor: Tensor) -> list[Tensor]:
            outputs: list[Tensor] = session.run(None, {name: tensor})
            return outputs

        return run


def _spec(node: "ort.NodeArg") -> TensorSpec:
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in node.shape)
    return TensorSpec(node.name, shape, _DTYPES.get(node.type, node.type))
