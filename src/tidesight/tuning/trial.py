"""Measure one candidate in a process of its own, as an instance would run it: same threads, same memory.

The parent sends a `Task` as JSON on standard input; the child answers with a `Measured`. Two figures are taken. The
saturation: each worker takes the next picture as soon as it is done; the time in which its threads could have run but
others held the CPU is taken off, as Linux counts it, so that a busy machine does not decide. The latency: pictures
fall due at random times (Poisson) at 70 % of what it did beside the others, and each counts from when it was due, so
waiting for a worker is part of it.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np

from tidesight.detection.detector import Detector
from tidesight.detection.engines import RunPlan
from tidesight.errors import ModelError, TidesightError
from tidesight.resources import usable_resources

LOAD = 0.7  # of the saturation, for the latencies
_WARM_UP_S = 0.3
_LEAST_LATENCIES = 30
_PATIENCE_S = 120.0  # to load and warm, beyond the time that is measured, while nothing is known of the machine
_LEAST_PATIENCE_S = 20.0
_PATIENCE_FACTOR = 10  # of what the first trial took: another engine may load more slowly, and the machine be busy


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        model: File.
        engine: A key of `ENGINES`.
        plan: How to run it.
        workers: Pictures at the same time.
        pictures: Files, used in turns.
        saturated_s: Seconds at saturation.
        loaded_s: Seconds at 70 % of it; 0 leaves the latency out.
        seed: Of the times at which pictures fall due.
        patience_s: Seconds beyond those measured after which it is given up.
    """

    model: str
    engine: str
    plan: RunPlan
    workers: int
    pictures: tuple[str, ...]
    saturated_s: float
    loaded_s: float
    seed: int
    patience_s: float = _PATIENCE_S


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        per_s: Pictures a second at saturation, less the time that others took.
        latencies_ms: Of each picture under load.
        memory_bytes: Proportional set size.
        disturbed: Share of the saturated time that others took, 0 to 1.
    """

    per_s: float
    latencies_ms: tuple[float, ...]
    memory_bytes: int
    disturbed: float = 0.0


def run_trial(task: Task) -> Measured:
    """Measure in a child process, which is ended when it hangs.

    Raises:
        ModelError: the candidate cannot run; the message says why.
    """
    limit_s = task.saturated_s + task.loaded_s + task.patience_s
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tidesight.tuning.trial"],
            input=json.dumps(asdict(task)).encode(),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        layout = f"{task.workers}x{task.plan.threads_each} threads"
        raise ModelError(f"hung: {task.engine} with {layout} gave no answer within {limit_s:.0f} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelError(lines[-1][:200] if lines else f"ended with {done.returncode}")
    found = json.loads(done.stdout)
    return Measured(**found | {"latencies_ms": tuple(found["latencies_ms"])})


def patience_s(first_took_s: float) -> float:
    """Seconds to allow a trial beyond those measured, by what the first one took beyond them."""
    return min(_PATIENCE_S, max(_LEAST_PATIENCE_S, _PATIENCE_FACTOR * first_took_s))


def measure(task: Task) -> Measured:
    """Measure in this process."""
    first = Detector.open(task.model, engine=task.engine, threads=task.workers, plan=task.plan)
    detectors = first.for_threads(task.workers)
    pictures = [Path(name).read_bytes() for name in task.pictures]
    threads = task.workers * task.plan.threads_each
    _saturate(detectors, pictures, _WARM_UP_S, threads)
    per_s, disturbed = _saturate(detectors, pictures, task.saturated_s, threads)
    # Of what it did beside the others: on a busy machine 70 % of what it could do alone would only pile up.
    rate_per_s = LOAD * per_s * (1 - disturbed)
    due = due_times(rate_per_s, task.loaded_s, task.seed) if task.loaded_s else []
    loaded = _under_load(detectors, pictures, due)
    return Measured(per_s, tuple(1000 * seconds for seconds in loaded), _memory_bytes(), disturbed)


def due_times(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """Times of a Poisson process, in seconds from its start; at least 30, whatever that takes."""
    number = max(_LEAST_LATENCIES, int(rate_per_s * seconds))
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, number)
    return [float(at) for at in np.cumsum(gaps)]


def _saturate(
    detectors: Sequence[Detector], pictures: Sequence[bytes], seconds: float, threads: int
) -> tuple[float, float]:
    """(pictures a second, share of the time that others took).

    Pictures that begin within the time count, and so does the time until the last one ends.
    """
    done = count()
    waits_s: list[float] = []
    before, cpu_s, started = _engine_waits_s(), time.process_time(), time.perf_counter()

    def work(detector: Detector) -> None:
        while time.perf_counter() < started + seconds:
            detector.detect(pictures[next(done) % len(pictures)])
        waits_s.append(_wait_s(Path("/proc/thread-self")))

    _together(work, detectors)
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    after = _engine_waits_s()
    waited_s = sum(waits_s) + sum(after[thread] - before.get(thread, 0.0) for thread in after)
    alone_s = undisturbed_s(took_s, waited_s / threads, cpu_s / usable_resources().cpus)
    return next(done) / alone_s, 1 - alone_s / took_s


def undisturbed_s(took_s: float, waited_s: float, least_s: float) -> float:
    """How long something would have taken alone.

    Args:
        took_s: How long it took.
        waited_s: How long each of its threads was ready to run and did not.
        least_s: Its CPU time on all CPUs at once: where its own threads wait for each other, it takes no less.
    """
    return min(took_s, max(took_s - waited_s, least_s))


def _engine_waits_s() -> dict[str, float]:
    """Seconds that each thread of this process has waited for a CPU; nothing where Linux does not tell."""
    return {task.name: _wait_s(task) for task in Path("/proc/self/task").glob("*")}


def _wait_s(task: Path) -> float:
    # Documentation/scheduler/sched-stats.rst: time on a CPU, time waiting for one (ns), slices.
    try:
        return int((task / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _under_load(detectors: Sequence[Detector], pictures: Sequence[bytes], due_s: Sequence[float]) -> list[float]:
    """Seconds from when each picture was due to its end."""
    numbers = count()
    latencies = [0.0] * len(due_s)
    started = time.perf_counter()

    def work(detector: Detector) -> None:
        while (number := next(numbers)) < len(due_s):
            due = started + due_s[number]
            time.sleep(max(0.0, due - time.perf_counter()))
            detector.detect(pictures[number % len(pictures)])
            latencies[number] = time.perf_counter() - due

    _together(work, detectors)
    return latencies


def _together(work: Callable[[Detector], None], detectors: Sequence[Detector]) -> None:
    failures: list[BaseException] = []

    def guarded(detector: Detector) -> None:
        try:
            work(detector)
        except Exception as error:  # each library raises its own types; the caller's thread tells
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(detector,)) for detector in detectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise ModelError(f"fails on a picture: {' '.join(str(failures[0]).split())[:200]}")


def _memory_bytes() -> int:
    """Proportional set size of this process; 0 where Linux does not tell."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def main() -> None:
    """The child: a task on standard input, what was measured on standard output."""
    values = json.load(sys.stdin)
    task = Task(**values | {"plan": RunPlan(**values["plan"]), "pictures": tuple(values["pictures"])})
    try:
        print(json.dumps(asdict(measure(task))))
    except TidesightError as error:
        sys.exit(error.detail)


if __name__ == "__main__":
    main()
