"""Inference engines: a table of `name -> "module:attr"`, so that only the chosen one is imported.

Adding an engine is one file with a `load(path, threads, plan) -> Engine` function, and one line here.
"""

from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tidesight.errors import ConfigError, MissingExtra, ModelError

ENGINES = {
    "onnxruntime": "tidesight.detection.engines.onnxruntime:load",
    "openvino": "tidesight.detection.engines.openvino:load",
    "fake": "tidesight.detection.engines.fake:load",
}
Tensor = npt.NDArray[np.floating]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model file.

    Attributes:
        name: Its name in the graph.
        shape: Its dimensions; None where the file leaves one open.
        dtype: "float32", "float16", ...
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        dimensions = "x".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}[{dimensions}] {self.dtype}"


@dataclass(frozen=True)
class RunPlan:
    """How a model is run; `tidesight tune` looks for the best one.

    Attributes:
        threads_each: CPUs that one picture is spread over.
        precision: "auto" (the engine's choice for this CPU), "fp32" or "bf16".
        side_px: Longer side of the input, for a file that leaves its size open; None takes the file's own.
        margin_px: None fills the whole input, padding the picture to a square. A number, for a file that leaves its
            size open, cuts the input to the picture and at least this much padding beside it.
    """

    threads_each: int = 1
    precision: str = "auto"
    side_px: int | None = None
    margin_px: int | None = None


DEFAULT_PLAN = RunPlan()
INPUT_SHAPES = ("auto", "square")


def with_shape(plan: RunPlan | None, input_shape: str) -> RunPlan | None:
    """A plan in which every picture is padded to a square, if "square" is wanted; "auto" changes nothing.

    Args:
        plan: How the model is run; None leaves it to what fits the file and the engine.
        input_shape: One of `INPUT_SHAPES`.

    Raises:
        ConfigError: it is something else.
    """
    if input_shape not in INPUT_SHAPES:
        detail = f"input_shape: expected {' or '.join(INPUT_SHAPES)}, got {input_shape!r}"
        raise ConfigError(detail, field="input_shape")
    return plan if input_shape == "auto" else replace(plan or DEFAULT_PLAN, margin_px=None)


@dataclass(frozen=True)
class Signature:
    """What a model file says of itself.

    Attributes:
        inputs: Its inputs.
        outputs: Its outputs.
        metadata: Free key-value pairs in the file (names, head, licence, ...).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str] = field(default_factory=dict)


class Runner(Protocol):
    """Runs one picture at a time; belongs to one thread."""

    def __call__(self, tensor: Tensor) -> list[Tensor]:
        """Run the model on (1, 3, h, w); the outputs may be overwritten by the next call."""
        ...


class Engine(Protocol):
    """A model loaded by an inference library, for a given number of threads.

    Attributes:
        signature: What the file says of itself.
        compiles_shapes: Whether the first run at an input size costs far more than the next ones.
    """

    signature: Signature
    compiles_shapes: bool

    def runner(self) -> Runner:
        """A runner for one more thread."""
        ...


def load_engine(name: str, path: Path, threads: int = 1, plan: RunPlan = DEFAULT_PLAN) -> Engine:
    """Load a model file.

    Args:
        name: A key of `ENGINES`, "auto", or any "module:attr" of a `load(path, threads, plan)` function.
        path: The model file.
        threads: How many runners will run at the same time.
        plan: How to run it.

    Raises:
        ConfigError: no such engine.
        MissingExtra: the engine's library is not installed.
        ModelError: there is no such file, or the library refuses it.
    """
    name = fastest_installed() if name == "auto" else name
    if name in ENGINES and name != "fake" and not path.is_file():  # an engine of one's own may need no file
        raise ModelError(f"no model file {path}")
    target = ENGINES.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        raise ConfigError(f"no engine {name!r}; there are: auto, {', '.join(ENGINES)}", field="engine")
    try:
        load = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # all that a wrong name can raise
        if isinstance(error, ModuleNotFoundError) and error.name == "openvino":
            raise MissingExtra("openvino", extra="openvino") from None
        raise ConfigError(f"engine {name!r}: {error}", field="engine") from error
    engine: Engine = load(path, threads, plan)
    return engine


def fastest_installed() -> str:
    """The engine `auto` stands for: OpenVINO where the CPU computes in BF16, else ONNX Runtime.

    Without BF16, ONNX Runtime is the faster of the two on YOLOX-Nano and loads several times sooner;
    with it OpenVINO is (figures: `benchmarks/README.md`).
    """
    from importlib.util import find_spec

    return "openvino" if cpu_has_bf16() and find_spec("openvino") else "onnxruntime"


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies BF16 natively (AVX512-BF16 or AMX)."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_facts().get("flags", "").split())


def cpu_facts(file: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first CPU ("model name", "flags", ...); nothing elsewhere."""
    facts: dict[str, str] = {}
    try:
        with file.open(encoding="ascii", errors="ignore") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if not name.strip():  # an empty line ends the first CPU
                    break
                facts[name.strip()] = value.strip()
    except OSError:
        pass
    return facts
