"""`tidesight serve`: put one instance together and run it."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import Field, fields, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from tidesight import __version__, logs
from tidesight.commands.serve_model import Loaded, as_tuned, load_detectors, model_path, tuned_choice
from tidesight.errors import ConfigError
from tidesight.resources import usable_connections, usable_memory_bytes, usable_resources
from tidesight.settings import SECRETS, ServeSettings, serve_settings

if TYPE_CHECKING:
    from tidesight.serving.instance import Ready
    from tidesight.serving.memory import MemoryPlan
    from tidesight.serving.request_record import Tracer
    from tidesight.telemetry import Telemetry
    from tidesight.tuning.saved import Choice

log = logging.getLogger(__name__)
_WORDS = {"input_shape": ("auto", "square"), "traces": ("off", "otlp")}
_SPANS_DRAIN_S = 1.0  # for spans at the end, which matter less than results


_HELP = {
    "host": "Address to listen on.",
    "port": "Port; 0 takes a free one. Also PORT.",
    "model": "ONNX file; the embedded model when empty.",
    "labels": "File with one class name per line; the model's own names when empty.",
    "engine": "auto, onnxruntime or openvino.",
    "input_shape": "auto cuts the input to the picture where that is faster; square pads every picture to a square.",
    "workers": "Worker threads; 0 is one for each usable CPU.",
    "worker_hang_s": "Seconds after which a picture is given up and its worker thread replaced.",
    "max_queue": "Requests that may wait for a worker.",
    "max_body_bytes": "Of a request body.",
    "max_pixels": "Of a picture, by its header; 0 is what the memory allows, at most 40 million.",
    "deadline_s": "Seconds for an answer, when the request does not say.",
    "body_timeout_s": "Seconds for a body to arrive.",
    "max_connections": "Connections at a time; beyond it only probes are answered.",
    "lame_duck_s": "Seconds of unreadiness after SIGTERM before listening ends.",
    "grace_s": "Seconds for accepted requests to finish after that.",
    "store": "Where results go: a folder, file:///, gs:// or s3:// URL; tidesight-results when empty.",
    "store_mode": "sync: answer once the store has a result; async: once it is on the local disk.",
    "spool": "Folder for async, of this instance alone.",
    "spool_max_bytes": "Of the files in it.",
    "store_drain_s": "Seconds for uploads that wait at the end.",
    "api_key_file": "File of API keys, one per line, of which a request needs one; also TIDESIGHT_API_KEYS.",
    "log_level": "debug, info, warning or error.",
    "log_format": "text, or json: one object per line.",
    "access_log": "Requests with a line in the log: all, errors or off.",
    "traces": "otlp sends OpenTelemetry spans to where the OTEL_* variables say; off sends none.",
    "instance": "Its name in answers' X-Tidesight-Instance; one made up when empty.",
    "lifeline_fd": "Inherited pipe: the instance is killed when its other end closes; -1 is none.",
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
        *(_option(field) for field in fields(ServeSettings) if field.name not in SECRETS),
        click.Option(["--config"], type=click.Path(path_type=Path), help="TOML file with a [serve] table."),
    ],
    help="""Serve a detector over HTTP: POST a picture to /v1/detect, or open / in a browser.

    Each option is also an environment variable, TIDESIGHT_PORT for --port; a flag wins over the
    environment, which wins over the file. See docs/guides/settings.md.
    """,
)


def run_instance(settings: ServeSettings, loaded: Loaded | None = None) -> int:
    """Build an instance from its settings, with a model that a template has loaded or its own; the exit code."""
    _tie(settings.lifeline_fd)
    _configure_log(settings)
    tuned = _tuned(settings)
    settings = as_tuned(settings, tuned)
    plan = memory_plan(settings)
    settings = replace(settings, max_pixels=plan.max_pixels)
    # The model and the store open in threads, in the time that the web server takes to be imported.
    beside = ThreadPoolExecutor(3)
    model_loading = beside.submit(load_detectors, settings, tuned, loaded)

    from tidesight.results.spool import SpoolLimits
    from tidesight.results.writer import ResultWriter

    spool_limits = SpoolLimits(settings.spool_max_bytes)
    results = ResultWriter(settings.store, settings.store_mode, settings.spool, spool_limits)
    store_opening = beside.submit(results.open)
    tracer_opening = beside.submit(_open_tracer, settings.traces)
    beside.shutdown(wait=False)

    from tidesight.detection.image import ImageLimits
    from tidesight.serving import lifecycle
    from tidesight.serving.api_keys import ApiKeys
    from tidesight.serving.instance import Instance, Ready, ServingLimits
    from tidesight.serving.request_record import Recorder
    from tidesight.telemetry import Telemetry

    limits = ServingLimits(
        settings.max_body_bytes,
        plan.held_bytes,
        ImageLimits(settings.max_body_bytes, settings.max_pixels),
        settings.body_timeout_s,
        settings.deadline_s,
        usable_connections(settings.max_connections),
        plan.answer_bytes,
    )
    api_keys = ApiKeys(settings.api_keys, Path(settings.api_key_file) if settings.api_key_file else None)
    _log_limits(plan, len(api_keys))
    telemetry = Telemetry()
    instance = Instance(limits, results, telemetry, api_keys)
    instance.name = settings.instance or instance.name
    instance.recorder = Recorder(settings.access_log)
    server = lifecycle.ServerSettings(
        settings.host, settings.port, settings.lame_duck_s, settings.grace_s, settings.store_drain_s
    )

    def load() -> Ready:
        loaded = model_loading.result()
        store_opening.result()
        instance.recorder.tracer = tracer_opening.result()
        return _ready(loaded, settings, telemetry)

    def close_results(limit_s: float) -> None:
        until_s = perf_counter() + limit_s
        wait([store_opening], timeout=limit_s)
        results.close(max(0.0, until_s - perf_counter()))
        instance.recorder.close(_SPANS_DRAIN_S)

    return lifecycle.run(instance, load, close_results, server)


def _tuned(settings: ServeSettings) -> "Choice | None":
    choice = tuned_choice(settings)
    if choice is not None:
        log.info("runs as tuned: %s", choice.describe())
    return choice


def _tie(lifeline_fd: int) -> None:
    if lifeline_fd >= 0:
        from tidesight.fleet.lifeline import end_with

        end_with(lifeline_fd, parent=True)


def _open_tracer(traces: str) -> "Tracer | None":
    if traces == "off":
        return None
    from tidesight.serving.spans import OtlpTracer

    return OtlpTracer()


def memory_plan(settings: ServeSettings) -> "MemoryPlan":
    """What an instance of these settings may need; where they leave it open, with the largest picture that fits."""
    from tidesight.detection.engines import fastest_installed
    from tidesight.serving.memory import MemoryPlan, held_bytes, largest_picture_px, program_bytes

    resources = usable_resources()
    usable_bytes = usable_memory_bytes(resources)
    workers = settings.workers or resources.threads
    engine = fastest_installed() if settings.engine == "auto" else settings.engine
    model = model_path(settings)
    plan = MemoryPlan(
        usable_bytes,
        program_bytes(engine, model.stat().st_size if model.is_file() else 0, workers),
        workers,
        held_bytes(resources.memory_bytes, usable_bytes, workers, settings.max_body_bytes),
        settings.max_body_bytes,
        settings.max_pixels,
    )
    return plan if settings.max_pixels else replace(plan, max_pixels=largest_picture_px(plan))


def _log_limits(plan: "MemoryPlan", keys: int) -> None:
    log.info("API keys: %s", keys or "none, everybody may ask")
    log.log(logging.INFO if plan.fits else logging.WARNING, "memory: %s", plan)


def load_model(settings: ServeSettings) -> Loaded:
    """Load the model as an instance with these settings would, for its forks to take over."""
    from tidesight.serving.memory import MOST_PIXELS

    tuned = tuned_choice(settings)
    # Each fork has its own workers and limit.
    return load_detectors(replace(as_tuned(settings, tuned), workers=1, max_pixels=MOST_PIXELS), tuned)


def _ready(loaded: Loaded, settings: ServeSettings, telemetry: "Telemetry") -> "Ready":
    from tidesight import telemetry as metrics
    from tidesight.serving.admission import Admission
    from tidesight.serving.instance import Ready
    from tidesight.serving.workers import WorkerPool

    model, workers = loaded.detectors[0].model, WorkerPool(loaded.detectors, settings.worker_hang_s)
    size = f"{model.input_width_px}x{model.input_height_px}"
    telemetry.set(metrics.BUILD_INFO, 1, __version__)
    telemetry.set(
        metrics.MODEL_INFO, 1, model.name, loaded.engine, model.head.name, size, "yes" if loaded.tuned else "no"
    )
    telemetry.set(metrics.WORKERS, len(workers))
    # The first estimate of a request's service is the warm-up's; it is learned from then on.
    admission = Admission(len(workers), settings.max_queue, service_s=loaded.warm_up_s)
    return Ready(model, loaded.engine, workers, admission)


def _configure_log(settings: ServeSettings) -> None:
    words = {"log_level": logs.LEVELS, "log_format": logs.FORMATS, **_WORDS}
    for name, known in words.items():
        if getattr(settings, name) not in known:
            told = f"{name}: expected {' or '.join(known)}, got {getattr(settings, name)!r}"
            raise ConfigError(told, field=name)
    logs.configure(settings.log_level, settings.log_format)
    # It reports at warning level what callers send wrong, which is answered with a 400 and counted.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
