"""How long a report of a million requests takes, and how large it is: `python -m benchmarks.report_size [COUNT]`."""

import gzip
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

from tidesight.experiments.report.write import write_report
from tidesight.runs.rows import RequestRow, header
from tidesight.runs.writer import FACTS, FORMAT, REQUESTS, SUMMARY

_LASTS_S = 3600.0
_GOAL_S, _GOAL_BYTES = 15.0, 8_000_000


def many_requests(folder: Path, count: int, chance: np.random.Generator) -> Path:
    """A run of an hour as its writer leaves it, with so many requests of which one in fifty is refused.

    Args:
        folder: Made.
        count: Requests.
        chance: When they are due and what they take.
    """
    folder.mkdir(parents=True)
    due_s = np.sort(chance.uniform(0, _LASTS_S, count)).tolist()
    took_s = chance.lognormal(-3, 1, count).tolist()
    status = np.where(chance.random(count) < 0.02, 503, 200).tolist()
    load = {"arrivals": "poisson", "rate_rps": count / _LASTS_S}
    scenario = {"name": "many", "load": load, "duration_s": _LASTS_S, "objective_s": 0.5}
    (folder / FACTS).write_text(json.dumps({"format": FORMAT, "started_epoch_s": 0.0, "scenario": scenario}))
    (folder / SUMMARY).write_text("{}")
    with gzip.open(folder / REQUESTS, "wt", compresslevel=1) as file:
        file.write(",".join(header(RequestRow)) + "\n")
        for at_s, taken_s, code in zip(due_s, took_s, status, strict=True):
            file.write(f"{at_s:.6f},{at_s:.6f},{at_s + taken_s:.6f},{code},100000,900,i1,\n")
    return folder


def main() -> None:
    """Measure, print, and fail where a goal is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with TemporaryDirectory() as work:
        folder = many_requests(Path(work) / "run", count, np.random.default_rng(1))
        begun_s, cpu_s = perf_counter(), process_time()
        made = write_report([folder], Path(work) / "out")
        took_s, cpu_s = perf_counter() - begun_s, process_time() - cpu_s
        size_bytes = made.page.stat().st_size
    print(f"{count} requests: {took_s:.1f} s ({cpu_s:.1f} s of CPU), {size_bytes / 1e6:.2f} MB")
    print(f"goals: at most {_GOAL_S:g} s and {_GOAL_BYTES / 1e6:g} MB")
    sys.exit(int(took_s > _GOAL_S or size_bytes > _GOAL_BYTES))


if __name__ == "__main__":
    main()
