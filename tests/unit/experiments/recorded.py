"""Small runs on disk whose every figure can be worked out by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidesight.runs.rows import FRONT, DecisionRow, RequestRow, SampleRow
from tidesight.runs.writer import RunWriter

MIB = 2**20
SCENARIO: dict[str, Any] = {
    "name": "reference-1", "load": {"arrivals": "constant", "rate_rps": 1.0}, "duration_s": 10.0, "objective_s": 0.5,
    "seeds": [1], "shows": "",
}  # fmt: skip
# due, latency, status, error: two meet a start, five are good, three too late, one refused, one given up
REQUESTS: tuple[tuple[float, float, int | None, str | None], ...] = (
    (0, 2.1, 200, None), (1, 1.2, 200, None), (2, 0.1, 200, None), (3, 0.2, 200, None), (4, 0.3, 200, None),
    (5, 0.4, 200, None), (6, 0.01, 503, None), (7, 5.0, None, "timeout"), (8, 0.5, 200, None), (9, 0.6, 200, None),
)  # fmt: skip


def platform(name: str = "cloud-run", **changes: Any) -> dict[str, Any]:
    """What a run says of its platform."""
    gets = {"cpu": 0.5, "memory_bytes": 512 * MIB}
    return {"name": name, "policy": "p", "min": 0, "max": 3, "set": {}, "delays": False, "instance": gets, **changes}


def start(how: str = "fresh", asked_s: float = 0.0, ready_s: float = 2.0) -> dict[str, Any]:
    """The life of the one instance."""
    return {"id": "i1", "asked_s": asked_s, "placed_s": asked_s, "spawned_s": asked_s + 0.1, "ready_s": ready_s,
            "ended_s": 12.0, "how": how}  # fmt: skip


def facts(**changes: Any) -> dict[str, Any]:
    """`run.json`."""
    return {
        "scenario": SCENARIO, "platform": platform(), "repeat": 1, "driver": "tidesight", "started_epoch_s": 1.7e9,
        "machine": {"cpu": "Abacus", "usable_cpus": 2, "memory_bytes": 4 * 2**30, "kernel": "6.1"},
        "versions": {"python": "3.11", "onnxruntime": "1.20"}, "noise": {"before_ms": 20.0, "after_ms": 20.0}, **changes,
    }  # fmt: skip


def summary(**changes: Any) -> dict[str, Any]:
    """`summary.json`."""
    generator = {"send_lag_p99_ms": 1.5, "cpu": 0.25, "valid": True, "why": None}
    cost = {"usd": 0.01, "usd_per_thousand": 99.0, "prices_of": "2026-11-22"}
    return {"starts": [start()], "cost": cost, "generator": generator, "invalid": [], **changes}


def write(
    folder: Path,
    run: Mapping[str, Any] | None = None,
    said: Mapping[str, Any] | None = None,
    *,
    requests: bool = True,
    samples: bool = True,
    slower: float = 1.0,
    inside: float = 1.0,
) -> Path:
    """A run of ten seconds with one instance.

    Args:
        folder: Of the run.
        run: Its facts.
        said: Its summary; the usual one where None.
        requests: Whether it has any.
        samples: Whether it was watched.
        slower: What latencies are multiplied by.
        inside: Requests in the instance.
    """
    with RunWriter.create(folder, facts() if run is None else run) as writer:
        for due_s, latency_s, status, error in REQUESTS if requests else ():
            writer.request(RequestRow(due_s, due_s, due_s + latency_s * slower, status, 100, 100, "i1", error))
        for at_s in range(10) if samples else ():
            starting = at_s < 2
            writer.sample(SampleRow(at_s, FRONT, "activator", 1, 2.0 if at_s == 1 else 0.0))
            state, cpu = ("starting", 1.0) if starting else ("ready", 0.4)
            writer.sample(SampleRow(at_s, "i1", state, inside, 0, cpu, 128 * MIB))
        for at_s, current, desired in ((0, 0, 1), (5, 1, 1), (10, 1, 1)) if samples else ():
            writer.decision(DecisionRow(at_s, "kpa", current, current, desired, "StableMode"))
        writer.finish(summary() if said is None else said)
    return folder


def change(folder: Path, name: str, **values: Any) -> None:
    """Put other values into `run.json` or `summary.json`."""
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
