"""One instance: cost by stage, in-process limit, served throughput, latency at a low rate, cold start, memory."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count as counter
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import cv2
import msgspec
import pybase64

from benchmarks.client import closed_loop, open_loop, request_bytes
from benchmarks.tuned import open_plain
from tidesight.commands.local_server import LocalServer, local_server
from tidesight.detection.annotate import annotate, encode_jpeg
from tidesight.detection.detections import Detections
from tidesight.detection.detector import Detector
from tidesight.detection.image import ImageLimits, decode_image
from tidesight.detection.letterbox import Letterbox
from tidesight.serving.bodies import decode_base64, parse_body
from tidesight.serving.schemas import DetectReply, ImageReply, ModelReply, ObjectReply
from tidesight.serving.work import WorkOrder, perform

Figures = dict[str, Any]
CONNECTIONS_PER_WORKER = 4
LARGE_PX = (1920, 1440)


def json_bodies(pictures: Sequence[bytes]) -> list[bytes]:
    """Each picture as base64 in JSON."""
    return [b'{"image":"' + pybase64.b64encode(picture) + b'"}' for picture in pictures]


def stages(pictures: Sequence[bytes], engine: str) -> Figures:
    """Median microseconds of each stage on one core, over all pictures."""
    detector = Detector.open(engine=engine)
    detector.warm_up()
    bodies = json_bodies(pictures)
    raw = [msgspec.json.decode(body, type=dict[str, msgspec.Raw])["image"] for body in bodies]
    decoded = [decode_image(picture) for picture in pictures]
    found = [detector.detect(one.pixels) for one in decoded]
    model = detector.model
    size, margin_px = (model.input_width_px, model.input_height_px), detector.plan.margin_px
    box = Letterbox(*size, model.head.input_format, model.dtype, margin_px)
    drawn = [annotate(one.pixels, what) for one, what in zip(decoded, found, strict=True)]
    enough = (model.input_width_px, model.input_height_px)
    rows: dict[str, Callable[[int], object]] = {
        "body: JSON and base64": lambda i: parse_body(bodies[i], "application/json", {}),
        "of which base64": lambda i: decode_base64(bytes(raw[i])),
        "image decode": lambda i: decode_image(pictures[i], ImageLimits(), enough),
        "letterbox and tensor": lambda i: box.fit(decoded[i]),
        "JSON reply": lambda i: reply(model.name, found[i]),
        "draw": lambda i: annotate(decoded[i].pixels, found[i]),
        "JPEG encode": lambda i: encode_jpeg(drawn[i]),
    }
    cost_us = {name: _median_us(call, len(pictures)) for name, call in rows.items()}
    timed = [detector.detect(one.pixels).timings_s for one in decoded]
    cost_us["inference"] = median(t["inference"] for t in timed) * 1e6
    cost_us["head decode, NMS, boxes"] = median(t["postprocess"] for t in timed) * 1e6
    return {"engine": engine, "pictures": len(pictures), "median_us": {k: round(v, 1) for k, v in cost_us.items()}}


def reply(model_name: str, found: Detections) -> bytes:
    """The JSON answer as an instance makes it."""
    objects = [
        ObjectReply([round(side, 2) for side in box], round(score, 4), class_id, label)
        for box, score, class_id, label in found
    ]
    timings_ms = {stage: round(1000 * seconds, 3) for stage, seconds in found.timings_s.items()}
    image = ImageReply(found.image_width_px, found.image_height_px)
    answer = DetectReply(
        id="0" * 32, model=ModelReply(model_name), image=image, detections=objects, timings_ms=timings_ms
    )
    return msgspec.json.encode(answer)


def _median_us(call: Callable[[int], object], items: int) -> float:
    seconds = []
    for index in range(items):
        started = perf_counter()
        call(index)
        seconds.append(perf_counter() - started)
    return median(seconds) * 1e6


class InProcess:
    """The job without a server: base64 JSON in, JSON out, a thread for each detector."""

    def __init__(self, bodies: Sequence[bytes], detectors: Sequence[Detector]) -> None:
        self.threads = len(detectors)
        self._orders = [WorkOrder(body, "application/json", {}, False, ImageLimits()) for body in bodies]
        self._detectors = detectors
        for detector in self._detectors:
            detector.warm_up()

    def one(self, number: int, detector: Detector) -> bytes:
        """Do one request."""
        found = perform(self._orders[number % len(self._orders)], detector).detections
        return msgspec.json.encode([(one.box, one.score, one.class_id, one.label) for one in found])

    def per_second(self, count: int) -> float:
        """Pictures a second, all detectors at work."""
        numbers = counter()

        def work(detector: Detector) -> None:
            while (number := next(numbers)) < count:
                self.one(number, detector)

        threads = [threading.Thread(target=work, args=(detector,)) for detector in self._detectors]
        started = perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count / (perf_counter() - started)

    def single_s(self, count: int) -> float:
        """Median seconds of one picture at a time."""
        seconds = []
        for number in range(count):
            started = perf_counter()
            self.one(number, self._detectors[0])
            seconds.append(perf_counter() - started)
        return median(seconds)


@contextmanager
def served(*arguments: str) -> Iterator[tuple[LocalServer, int]]:
    """An instance and its port."""
    with local_server(*arguments) as instance:
        yield instance, int(instance.url.rpartition(":")[2])


def latency(pictures: Sequence[bytes], engine: str, rounds: int, count: int) -> Figures:
    """p50 and p99 at 10 requests a second beside the in-process time of one picture, interleaved."""
    bodies = json_bodies(pictures)
    requests = [request_bytes(body, "application/json") for body in bodies]
    inside = InProcess(bodies, open_plain(None, engine))
    found = []
    with served("--engine", engine) as (_, port):
        closed_loop(port, requests, 2, 20)
        for _ in range(rounds):
            alone_s = inside.single_s(count)
            outcome = open_loop(port, requests, 10, count)
            ordered = sorted(outcome.latencies_s)
            found.append(
                {
                    "in_process_ms": alone_s * 1e3,
                    "p50_ms": median(ordered) * 1e3,
                    "p99_ms": ordered[int(0.99 * (len(ordered) - 1))] * 1e3,
                    "send_lag_max_ms": max(outcome.send_lag_s) * 1e3,
                    "failures": outcome.failures,
                }
            )
    return {"engine": engine, "rate_rps": 10, "requests_per_round": count, "rounds": found}


def cold_start(picture: bytes, engine: str, rounds: int) -> Figures:
    """Seconds from process start to the first good answer, and resident memory then."""
    request = request_bytes(json_bodies([picture])[0], "application/json")
    first_s, ready_s, resident_mb = [], [], []
    for _ in range(rounds):
        started = perf_counter()
        with served("--engine", engine) as (instance, port):
            outcome = closed_loop(port, [request], 1, 1)
            first_s.append(perf_counter() - started)
            assert outcome.failures == 0
            ready_s.append(instance.start_s)
            resident_mb.append(rss_mb(instance.process.pid))
    return {
        "engine": engine,
        "first_answer_s": first_s,
        "ready_s": ready_s,
        "rss_mb": resident_mb,
        "split": _split(engine),
    }


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kib) / 1024


_SPLIT = """
import time; a = time.perf_counter()
import numpy, cv2, {library}
b = time.perf_counter()
from tidesight.detection.detector import Detector
d = Detector.open(engine={engine!r})
c = time.perf_counter()
d.warm_up()
e = time.perf_counter()
import tidesight.serving.lifecycle, tidesight.commands.serve, tidesight.cli
f = time.perf_counter()
print(b - a, c - b, e - c, f - e)
"""


def _split(engine: str) -> dict[str, float]:
    """Median seconds of the parts of a start, one after the other (in an instance some overlap)."""
    code = _SPLIT.format(library=engine, engine=engine)
    runs = []
    for _ in range(5):
        started = perf_counter()
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        parts = [float(part) for part in printed.split()]
        runs.append([perf_counter() - started - sum(parts), *parts])
    names = ("interpreter", "numerical imports", "model load", "warm-up", "web and command-line imports")
    return {name: round(median(run[i] for run in runs), 4) for i, name in enumerate(names)}


def reduced_decode(pictures: Sequence[bytes]) -> Figures:
    """Decode of a picture several times the embedded model's input, in full and reduced, median milliseconds."""
    model = Detector.open(engine="onnxruntime").model
    enough = (model.input_width_px, model.input_height_px)
    large = [cv2.resize(decode_image(p).pixels, LARGE_PX) for p in pictures[:16]]
    files = [encode_jpeg(one) for one in large]  # type: ignore[arg-type]
    full = _median_us(lambda i: decode_image(files[i]), len(files)) / 1e3
    reduced = _median_us(lambda i: decode_image(files[i], ImageLimits(), enough), len(files)) / 1e3
    by = LARGE_PX[0] // decode_image(files[0], ImageLimits(), enough).pixels.shape[1]
    return {
        "picture": f"{LARGE_PX[0]}x{LARGE_PX[1]}",
        "input_widths": round(LARGE_PX[0] / enough[0], 1),
        "reduced_by": by,
        "full_ms": round(full, 2),
        "reduced_ms": round(reduced, 2),
    }


def pictures_of(folder: Path, most: int) -> list[bytes]:
    """JPEG files of a folder, sorted."""
    return [file.read_bytes() for file in sorted(folder.glob("*.jpg"))[:most]]
