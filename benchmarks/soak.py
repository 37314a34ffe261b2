"""Memory over minutes at capacity, with good and bad input mixed."""

import random
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from statistics import linear_regression
from time import perf_counter

import pybase64

from benchmarks.client import closed_loop, request_bytes
from benchmarks.instance import CONNECTIONS_PER_WORKER, Figures, json_bodies, rss_mb, served
from tidesight.resources import usable_resources

_WARM_UP_SHARE = 0.2  # of the whole time: pools and allocators grow to their size first
_ROUND = 200
_POINTS = 120  # that are kept of the samples
_HUGE_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0" + bytes(64)


def soak(pictures: Sequence[bytes], engine: str, minutes: float) -> Figures:
    """Resident memory, once a second, and its growth by a linear fit after the warm-up."""
    requests = _mixed(pictures)
    connections = CONNECTIONS_PER_WORKER * usable_resources().threads
    statuses: Counter[str] = Counter()
    with served("--engine", engine) as (instance, port):
        watch = _Watch(instance.process.pid, port, requests[0])
        watch.start()
        started = perf_counter()
        while perf_counter() - started < 60 * minutes:
            statuses += closed_loop(port, requests, connections, _ROUND).statuses
        watch.stop()
    return {
        "engine": engine,
        "minutes": minutes,
        "statuses": dict(sorted(statuses.items())),
        "abandoned": watch.abandoned,
        "growth": growth(watch.samples),
        "rss_mb": [
            [round(seconds - started, 1), round(megabytes, 1)]
            for seconds, megabytes in watch.samples[:: max(1, len(watch.samples) // _POINTS)]
        ],
    }


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """How much of itself the memory grew by, from the end of the warm-up to the end: (second, MB) -> a fraction."""
    first_s, last_s = samples[0][0], samples[-1][0]
    begin_s = first_s + _WARM_UP_SHARE * (last_s - first_s)
    kept = [sample for sample in samples if sample[0] >= begin_s]
    slope, intercept = linear_regression(*zip(*kept, strict=True))
    return slope * (last_s - begin_s) / (slope * begin_s + intercept)


def _mixed(pictures: Sequence[bytes]) -> list[bytes]:
    """Requests in a fixed random order: three good ones, of three kinds, to each bad one."""
    json, jpeg = "application/json", "image/jpeg"
    good = [request_bytes(body, json) for body in json_bodies(pictures)]
    good += [request_bytes(picture, jpeg) for picture in pictures]
    good += [request_bytes(body[:-1] + b',"annotate":true}', json) for body in json_bodies(pictures[:32])]
    bad = [request_bytes(picture[: len(picture) // 2], jpeg) for picture in pictures[:32]]
    bad += 8 * [
        request_bytes(b"", json),
        request_bytes(b'{"image":', json),
        request_bytes(b'{"image":"*not base64*"}', json),
        request_bytes(b'{"image":"' + pybase64.b64encode(b"not a picture") + b'"}', json),
        request_bytes(json_bodies(pictures[:1])[0][:-1] + b',"confidence":2}', json),
        request_bytes(_HUGE_PNG, "image/png"),
        request_bytes(pictures[0], "text/plain"),
        request_bytes(pictures[0], jpeg, "?unknown=1"),
    ]
    mixed = good + bad
    random.Random(0).shuffle(mixed)
    return mixed


class _Watch(threading.Thread):
    """Once a second reads the memory, and sends half a request and leaves."""

    def __init__(self, pid: int, port: int, request: bytes) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self.abandoned = 0
        self._pid = pid
        self._port = port
        self._half = request[: len(request) // 2]
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(1):
            self.samples.append((perf_counter(), rss_mb(self._pid)))
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1) as caller:
                caller.sendall(self._half)
                self.abandoned += 1

    def stop(self) -> None:
        self._over.set()
        self.join()
