"""A deterministic engine for tests of other layers: no library, no model file, same answer every time.

The name of the "file" sets its behaviour: `fake`, or `fake-20ms` to take 20 ms a picture with the GIL
released, as a real engine does.
"""

import re
import time
from pathlib import Path

import numpy as np

from tidesight.detection.engines import Runner, Signature, Tensor, TensorSpec

_SIDE_PX = 64
_NAMES = '["cat", "dog"]'


def load(path: Path, threads: int) -> "FakeEngine":
    """Make the engine; see `tidesight.detection.engines.load_engine`."""
    match = re.search(r"-(\d+)ms$", path.stem)
    return FakeEngine(int(match[1]) / 1000 if match else 0.0)


class FakeEngine:
    """Finds one "cat" in the middle of every picture, scored by the picture's mean brightness."""

    signature = Signature(
        (TensorSpec("images", (1, 3, _SIDE_PX, _SIDE_PX), "float32"),),
        (TensorSpec("output", (1, 1, 6), "float32"),),
        {"tidesight.head": "end_to_end", "tidesight.names": _NAMES},
    )

    def __init__(self, latency_s: float = 0.0) -> None:
        self._latency_s = latency_s

    def runner(self) -> Runner:
        """A function from tensor to one fixed box."""

        def run(tensor: Tensor) -> list[Tensor]:
            if self._latency_s:
                time.sleep(self._latency_s)
            score = 0.5 + 0.5 * float(tensor.mean())
            quarter, rest = _SIDE_PX / 4, 3 * _SIDE_PX / 4
            return [np.array([[[quarter, quarter, rest, rest, score, 0]]], np.float32)]

        return run
