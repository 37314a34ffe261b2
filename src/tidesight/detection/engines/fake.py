"""A deterministic engine for tests of other layers: no library, no model file, same answer every time.

The name of the "file" sets its behaviour: `fake`, or `fake-20ms` to take 20 ms a picture with the GIL
released, as a real engine does. A word more makes it fail, on every wholly white picture and on no other, so that
one instance can be sent both kinds (`fake-20ms-hang`):

| word | what happens |
|---|---|
| `raise` | an exception, as of a library |
| `exit` | `SystemExit`, which ends the thread |
| `vanish` | native code ends the thread, and Python does not learn of it (Linux) |
| `hang` | it never returns |
| `broken` | an exception on every picture, so that the warm-up fails |
"""

import ctypes
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tidesight.detection.engines import Runner, RunPlan, Signature, Tensor, TensorSpec

_SIDE_PX = 64
_NAMES = '["cat", "dog"]'
_WHITE = 0.999  # the mean of a picture; one whose sides differ has grey beside it


def load(path: Path, threads: int, plan: RunPlan) -> "FakeEngine":
    """Make the engine; see `tidesight.detection.engines.load_engine`."""
    latency = re.search(r"-(\d+)ms(-|$)", path.stem)
    fault = re.search(rf"-({'|'.join(_FAULTS)})$", path.stem)
    return FakeEngine(int(latency[1]) / 1000 if latency else 0.0, fault[1] if fault else None)


class FakeEngine:
    """Finds one "cat" in the middle of every picture, scored by the picture's mean brightness."""

    compiles_shapes = False
    signature = Signature(
        (TensorSpec("images", (1, 3, _SIDE_PX, _SIDE_PX), "float32"),),
        (TensorSpec("output", (1, 1, 6), "float32"),),
        {"tidesight.head": "end_to_end", "tidesight.names": _NAMES},
    )

    def __init__(self, latency_s: float = 0.0, fault: str | None = None) -> None:
        self._latency_s = latency_s
        self._fault = fault

    def runner(self) -> Runner:
        """A function from tensor to one fixed box."""

        def run(tensor: Tensor) -> list[Tensor]:
            if self._latency_s:
                time.sleep(self._latency_s)
            mean = float(tensor.mean())
            if self._fault and (mean > _WHITE or self._fault == "broken"):
                _FAULTS[self._fault]()
            score = 0.5 + 0.5 * mean
            quarter, rest = _SIDE_PX / 4, 3 * _SIDE_PX / 4
            return [np.array([[[quarter, quarter, rest, rest, score, 0]]], np.float32)]

        return run


def _raise() -> None:
    raise RuntimeError("the fake engine fails on purpose")


def _exit() -> None:
    raise SystemExit("the fake engine ends its thread on purpose")


def _vanish() -> None:
    ctypes.CDLL(None).pthread_exit(None)


def _hang() -> None:
    threading.Event().wait()


_FAULTS: dict[str, Callable[[], None]] = {
    "raise": _raise, "exit": _exit, "vanish": _vanish, "hang": _hang, "broken": _raise,
}  # fmt: skip
