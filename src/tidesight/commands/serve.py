"""`tidesight serve`: put one instance together and run it."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import Field, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from tidesight import __version__
from tidesight.errors import ConfigError
from tidesight.resources import usable_resources
from tidesight.settings import ServeSettings, serve_settings

if TYPE_CHECKING:
    from tidesight.detection.detector import Detector
    from tidesight.serving.instance import Ready
    from tidesight.telemetry import Telemetry

_UNLIMITED_HELD_BYTES = 512 * 2**20  # where there is no memory limit


_HELP = {
    "host": "Address to listen on.",
    "port": "Port; 0 takes a free one. Also PORT.",
    "model": "ONNX file; the embedded model when empty.",
    "labels": "File with one class name per line; the model's own names when empty.",
    "engine": "auto, onnxruntime or openvino.",
    "workers": "Worker threads; 0 is one for each usable CPU.",
    "max_queue": "Requests that may wait for a worker.",
    "max_body_bytes": "Of a request body.",
    "max_pixels": "Of a picture, by its header.",
    "deadline_s": "Seconds for an answer, when the request does not say.",
    "body_timeout_s": "Seconds for a body to arrive.",
    "lame_duck_s": "Seconds of unreadiness after SIGTERM before listening ends.",
    "grace_s": "Seconds for accepted requests to finish after that.",
    "store": "Where results go: a folder, file:///, gs:// or s3:// URL; tidesight-results when empty.",
    "store_mode": "sync: answer once the store has a result; async: once it is on the local disk.",
    "spool": "Folder for async, of this instance alone.",
    "spool_max_bytes": "Of the files in it.",
    "store_drain_s": "Seconds for uploads that wait at the end.",
    "log_level": "debug, info, warning or error.",
}


def _serve(config: Path | None, **flags: object) -> None:
    sys.exit(run_instance(serve_settings(flags, config)))


def _option(field: "Field[Any]") -> click.Option:
    shown = f" (default: {field.default})" if field.default != "" else ""
    return click.Option([f"--{field.name.replace('_', '-')}"], type=type(field.default), help=_HELP[field.name] + shown)


serve = click.Command(
    "serve",
    callback=_serve,
    params=[
        *map(_option, fields(ServeSettings)),
        click.Option(["--config"], type=click.Path(path_type=Path), help="TOML file with a [serve] table."),
    ],
    help="""Serve a detector over HTTP: POST a picture to /v1/detect, or open / in a browser.

    Each option is also an environment variable, TIDESIGHT_PORT for --port; a flag wins over the
    environment, which wins over the file. See docs/guides/settings.md.
    """,
)


def run_instance(settings: ServeSettings) -> int:
    """Build an instance from its settings and run it; the exit code."""
    _configure_log(settings.log_level)
    # The model and the store open in threads, in the time that the web server takes to be imported.
    beside = ThreadPoolExecutor(2)
    model_loading = beside.submit(_load_detectors, settings)

    from tidesight.results.spool import SpoolLimits
    from tidesight.results.writer import ResultWriter

    spool_limits = SpoolLimits(settings.spool_max_bytes)
    results = ResultWriter(settings.store, settings.store_mode, settings.spool, spool_limits)
    store_opening = beside.submit(results.open)
    beside.shutdown(wait=False)

    from tidesight.detection.image import ImageLimits
    from tidesight.serving import lifecycle
    from tidesight.serving.instance import Instance, Ready, ServingLimits
    from tidesight.telemetry import Telemetry

    limits = ServingLimits(
        settings.max_body_bytes,
        _held_bytes(settings),
        ImageLimits(settings.max_body_bytes, settings.max_pixels),
        settings.body_timeout_s,
        settings.deadline_s,
    )
    telemetry = Telemetry()
    server = lifecycle.ServerSettings(settings.host, settings.port, settings.lame_duck_s, settings.grace_s)

    def load() -> Ready:
        loaded = model_loading.result()
        store_opening.result()
        return _ready(loaded, settings, telemetry)

    try:
        code = lifecycle.run(Instance(limits, results, telemetry), load, server)
    finally:
        wait([store_opening], timeout=settings.store_drain_s)
        left = results.close(settings.store_drain_s)
    if left:  # they are on the disk for the next start; a thread may still be inside a client library
        lifecycle.leave_at_once(code)
    return code


def _held_bytes(settings: ServeSettings) -> int:
    """What all bodies together may take: a quarter of the memory limit, but always one body for each worker."""
    resources = usable_resources()
    workers = settings.workers or resources.threads
    share = _UNLIMITED_HELD_BYTES if resources.memory_bytes is None else resources.memory_bytes // 4
    return max(share, workers * settings.max_body_bytes)


@dataclass(frozen=True)
class _Loaded:
    engine: str
    detectors: list["Detector"]
    warm_up_s: float


def _load_detectors(settings: ServeSettings) -> _Loaded:
    """Load the model, make a detector per worker, and see what a picture takes."""
    from tidesight.detection.embedded import embedded_model
    from tidesight.detection.engines import fastest_installed, load_engine

    # The engine first: it loads without the interpreter, which imports all the rest meanwhile.
    name = fastest_installed() if settings.engine == "auto" else settings.engine
    threads = settings.workers or usable_resources().threads
    path = Path(settings.model) if settings.model else embedded_model()
    engine = load_engine(name, path, threads)

    from tidesight.detection.detector import Detector
    from tidesight.detection.image import ImageLimits, be_quiet_about_bad_pictures

    be_quiet_about_bad_pictures()
    labels = Path(settings.labels) if settings.labels else None
    limits = ImageLimits(settings.max_body_bytes, settings.max_pixels)
    first = Detector.of_engine(engine, path, labels, limits)
    started = perf_counter()
    first.warm_up()
    warm_up_s = perf_counter() - started
    return _Loaded(name, [first, *(first.clone() for _ in range(threads - 1))], warm_up_s)


def _ready(loaded: _Loaded, settings: ServeSettings, telemetry: "Telemetry") -> "Ready":
    from tidesight import telemetry as metrics
    from tidesight.serving.admission import Admission
    from tidesight.serving.instance import Ready
    from tidesight.serving.workers import WorkerPool

    model, workers = loaded.detectors[0].model, WorkerPool(loaded.detectors)
    size = f"{model.input_width_px}x{model.input_height_px}"
    telemetry.set(metrics.BUILD_INFO, 1, __version__)
    telemetry.set(metrics.MODEL_INFO, 1, model.name, loaded.engine, model.head.name, size)
    telemetry.set(metrics.WORKERS, len(workers))
    # The first estimate of a request's service is the warm-up's; it is learned from then on.
    admission = Admission(len(workers), settings.max_queue, service_s=loaded.warm_up_s)
    return Ready(model, loaded.engine, workers, admission)


def _configure_log(level: str) -> None:
    if level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"log_level: expected debug, info, warning or error, got {level!r}", field="log_level")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # It reports at warning level what callers send wrong, which is answered with a 400 and counted.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
