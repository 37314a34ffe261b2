"""What can be varied: engine, precision, workers and threads, input size and shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tidesight.detection.engines import RunPlan
from tidesight.detection.probe import USUAL_MARGIN_PX

# How the input follows the picture: padded to a square, cut to it, or cut to it with some padding left. Networks
# trained with padding use it: YOLOX-Nano finds a little less where the picture ends at the input's edge.
MARGINS_PX: dict[str, int | None] = {"square": None, "rect+16": USUAL_MARGIN_PX, "rect": 0}
INT8 = ("int8", "int8-conv", "int8-dense")  # in the order of `training.quantize.RECIPES`
PRECISIONS = ("fp32", "bf16", *INT8)


@dataclass(frozen=True)
class Candidate:
    """One way to run a model.

    Attributes:
        engine: A key of `ENGINES`.
        precision: One of `PRECISIONS`.
        workers: Pictures at the same time.
        threads_each: CPUs that one picture is spread over.
        side_px: Longer side of the input; None is the file as it is.
        shape: A key of `MARGINS_PX`; "square" stands for any input of a fixed size.
    """

    engine: str
    precision: str = "fp32"
    workers: int = 1
    threads_each: int = 1
    side_px: int | None = None
    shape: str = "square"

    @property
    def plan(self) -> RunPlan:
        """How the engine and the detector are to run it."""
        precision = "auto" if self.precision in INT8 else self.precision  # what INT8 leaves alone is the engine's
        return RunPlan(self.threads_each, precision, self.side_px, MARGINS_PX[self.shape])

    @property
    def variant(self) -> tuple[str, str, int | None, str]:
        """What its detections depend on: layouts change none, and FP32 is the same on every engine."""
        engine = "" if self.precision == "fp32" else self.engine
        return engine, self.precision, self.side_px, self.shape

    def describe(self, native_px: int) -> str:
        """In words, for people."""
        size = f"{self.side_px or native_px} {self.shape}"
        return f"{self.engine} {self.precision}, {self.workers}x{self.threads_each} threads, {size}"


@dataclass(frozen=True)
class Space:
    """Everything that is to be tried, and what is not with the reason.

    Attributes:
        baseline: What `auto` does without a tuned choice.
        engines: Installed ones.
        precisions: By engine.
        layouts: (workers, threads each).
        inputs: (side, shape).
        native_px: Longer side of the file's own input.
        left_out: What is not tried: (what, why).
    """

    baseline: Candidate
    engines: tuple[str, ...]
    precisions: dict[str, tuple[str, ...]]
    layouts: tuple[tuple[int, int], ...]
    inputs: tuple[tuple[int | None, str], ...]
    native_px: int
    left_out: tuple[tuple[str, str], ...] = ()

    def with_layouts(self) -> list[Candidate]:
        """The file as it is and the baseline's shape, on every engine, in every layout; the baseline first."""
        plain = [Candidate(engine, "fp32", *layout) for engine in self.engines for layout in self.layouts]
        every = [replace(one, shape=self.baseline.shape) for one in plain]
        return list(dict.fromkeys([self.baseline, *every]))

    def with_precisions(self, best: Iterable[Candidate]) -> list[Candidate]:
        """Each engine's best layout in the other precisions."""
        return [
            replace(one, precision=precision)
            for one in best
            for precision in self.precisions[one.engine]
            if precision != one.precision
        ]

    def with_inputs(self, best: Iterable[Candidate]) -> list[Candidate]:
        """The same at other input sizes and shapes."""
        return [
            replace(one, side_px=side, shape=shape)
            for one in best
            for side, shape in self.inputs
            if (side or self.native_px, shape) != (one.side_px or self.native_px, one.shape)
        ]


def layouts(cpus: int, workers: Sequence[int] = ()) -> tuple[tuple[int, int], ...]:
    """(workers, threads each) that use all CPUs: many workers of one thread, or few of several.

    Args:
        cpus: Whole CPUs that may be used.
        workers: Only these numbers of workers; empty takes 1, half and all of the CPUs, and one more than all, which
            may fill the gaps that a worker's Python leaves.
    """
    wanted = sorted(set(workers) or {1, max(1, cpus // 2), cpus, cpus + 1})
    return tuple((count, max(1, cpus // count)) for count in wanted)


def default_sides(native_px: int) -> tuple[int, ...]:
    """Input sizes worth a try: around the native one, in steps of 32."""
    return tuple(sorted({max(32, round(native_px * share / 32) * 32) for share in (0.77, 0.85, 1.0, 1.08)}))


def inputs(sides_px: Iterable[int]) -> tuple[tuple[int | None, str], ...]:
    """(side, shape) of all sizes and shapes."""
    return tuple((side, shape) for side in sides_px for shape in MARGINS_PX)
