"""Which engine is the faster one here: pictures a second on all usable CPUs, and seconds to load."""

from collections.abc import Sequence
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from benchmarks.instance import InProcess, json_bodies
from benchmarks.tuned import open_plain
from tidesight.detection.detector import Detector

NAMES = ("onnxruntime", "openvino")


def compare(pictures: Sequence[bytes], rounds: int = 5, count: int = 150) -> dict[str, Any]:
    """Interleaved rounds of the in-process job on each engine that is installed."""
    missing = {name: name for name in NAMES if not find_spec(name)}
    engines = [name for name in NAMES if name not in missing]
    load_s = {engine: [_load_s(engine) for _ in range(3)] for engine in engines}
    inside = {engine: InProcess(json_bodies(pictures), open_plain(None, engine)) for engine in engines}
    per_s: dict[str, list[float]] = {engine: [] for engine in engines}
    for number in range(rounds):
        for engine in engines if number % 2 == 0 else reversed(engines):
            per_s[engine].append(inside[engine].per_second(count))
    threads = next(iter(inside.values())).threads
    return {"pictures_per_s": per_s, "load_s": load_s, "threads": threads, "missing": missing}


def _load_s(engine: str) -> float:
    started = perf_counter()
    Detector.open(engine=engine)
    return perf_counter() - started
