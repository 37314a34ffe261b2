"""What storing results costs: nothing, sync and async stored, in interleaved rounds, against real emulators.

Every request is the same and gets the same answer, the annotated picture; only `store` differs. So the drawing, which
storing needs, is in the baseline too. The instance has one CPU; generator and emulators share the others, as a
bucket is no neighbour of the instance either. The CPU time per request includes what is uploaded after the last answer.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from urllib.request import urlopen

from benchmarks import emulators
from benchmarks.client import closed_loop, request_bytes
from benchmarks.cpu import on_cpus, watch
from benchmarks.instance import CONNECTIONS_PER_WORKER, Figures, json_bodies
from benchmarks.rounds import resumed, turned
from benchmarks.stacks import Running, ours

NOTHING = "drawn, not stored"
STORES = {"S3": ("s3", emulators.s3), "GCS": ("gs", emulators.gcs)}
MODES = ("sync", "async")
_DRAIN_LIMIT_S = 60


def stored(pictures: Sequence[bytes], rounds: int, count: int, earlier: Figures) -> Iterator[Figures]:
    """Throughput and CPU time of one instance for each store and mode beside those of one that stores nothing."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        yield {"skipped": "one CPU only"}
        return
    with ExitStack() as stack:
        stack.enter_context(on_cpus(set(cpus[1:])))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers, missing = _start_all(stack, folder, cpus[0])
        settings = {"requests_per_round": count, "missing": missing}
        found = resumed(earlier, settings)
        for name, server in servers.items():
            _take(server, pictures, name != NOTHING, 3 * CONNECTIONS_PER_WORKER)
        for number in range(len(found), rounds):
            names = turned([*servers], number)
            of = {name: _take(servers[name], pictures, name != NOTHING, count) for name in names}
            found.append({"of": of, "others_cpus": max(one["others_cpus"] for one in of.values())})
            yield {**settings, "rounds": found}


def _start_all(stack: ExitStack, folder: Path, cpu: int) -> tuple[dict[str, Running], dict[str, str]]:
    servers, missing = {}, {}
    with on_cpus({cpu}):
        servers[NOTHING] = stack.enter_context(ours())
    for name, (scheme, emulator) in STORES.items():
        try:
            environment = stack.enter_context(emulator())
        except ModuleNotFoundError as error:
            missing[name] = str(error.name)
            continue
        for mode in MODES:
            place = ("--store", f"{scheme}://{emulators.BUCKET}/{mode}", "--store-mode", mode)
            spool = ("--spool", str(folder / f"{name}-{mode}"))
            with on_cpus({cpu}), _environment(environment):
                servers[f"{name}, {mode}"] = stack.enter_context(ours(*place, *spool))
    return servers, missing


def _take(server: Running, pictures: Sequence[bytes], store: bool, count: int) -> Figures:
    option = b',"store":true}' if store else b"}"
    bodies = [body[:-1] + option for body in json_bodies(pictures)]
    requests = [request_bytes(body, "application/json", accept="image/jpeg") for body in bodies]
    with watch(server.pid) as usage:
        outcome = closed_loop(server.port, requests, CONNECTIONS_PER_WORKER, count)
        behind = _records(server.port)
        drain_s = _drain_s(server.port)
    return {
        "per_s": outcome.per_second,
        "cpu_ms": 1e3 * usage.cpu_s / count,
        "failures": outcome.failures,
        "behind": behind,
        "drain_s": drain_s,
        "others_cpus": usage.others_cpus,
    }


def _drain_s(port: int) -> float:
    """Seconds until everything is uploaded."""
    started = perf_counter()
    while _records(port):
        if perf_counter() - started > _DRAIN_LIMIT_S:
            raise RuntimeError(f"results are not uploaded {_DRAIN_LIMIT_S} s after the last answer")
        sleep(0.05)
    return perf_counter() - started


def _records(port: int) -> int:
    """Results that wait for the store."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("tidesight_spool_records ")).split()[1]))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
