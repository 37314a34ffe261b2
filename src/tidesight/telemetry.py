"""Every metric of an instance, in one catalogue: name, kind, unit, labels, help."""

from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: With its unit, and `_total` on counters.
        kind: "counter", "gauge" or "histogram".
        help: One sentence.
        labels: Label names; every label has few values.
        buckets: Upper bounds of a histogram, in the metric's unit.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = _SECONDS


REQUESTS = Metric("tidesight_requests_total", "counter", "Detection requests answered, by HTTP status.", ("status",))
REQUEST_SECONDS = Metric(
    "tidesight_request_duration_seconds", "histogram", "From the request's headers to its answer, answered with 200."
)
STAGE_SECONDS = Metric(
    "tidesight_stage_duration_seconds", "histogram", "Time in one stage of an answered request.", ("stage",)
)
REFUSED = Metric("tidesight_refused_total", "counter", "Requests refused before any work, by reason.", ("reason",))
IN_FLIGHT = Metric("tidesight_requests_in_flight", "gauge", "Requests that wait for a worker or are being worked on.")
QUEUE_LENGTH = Metric("tidesight_queue_length", "gauge", "Requests that wait for a worker.")
QUEUE_OLDEST = Metric(
    "tidesight_queue_oldest_age_seconds",
    "gauge",
    "Age of the oldest request that waits for a worker; 0 when none does.",
)
PREDICTED_WAIT = Metric("tidesight_predicted_wait_seconds", "gauge", "Predicted time to an answer, service included.")
WORKERS = Metric("tidesight_workers", "gauge", "Worker threads, each with a detector of its own.")
WORKER_RESTARTS = Metric(
    "tidesight_worker_restarts_total", "counter", "Worker threads lost, by reason: died or hung.", ("reason",)
)
READY = Metric("tidesight_ready", "gauge", "1 when the instance takes requests, else 0.")
CONNECTIONS = Metric("tidesight_connections", "gauge", "Open connections, idle ones too.")
BODY_BYTES = Metric("tidesight_body_bytes", "gauge", "Bytes of request bodies held: being read, waiting or worked on.")
RECEIVED_BYTES = Metric("tidesight_received_bytes_total", "counter", "Bytes of request bodies that came in full.")
REQUEST_TIME = Metric(
    "tidesight_requests_in_flight_seconds_total",
    "counter",
    "Time that requests were inside, of all together; its rate is how many were on average.",
)
BUSY_TIME = Metric(
    "tidesight_busy_seconds_total", "counter", "Time with at least one request inside; what some platforms charge."
)
DETECTIONS = Metric("tidesight_detections_total", "counter", "Objects found.")
STORED = Metric("tidesight_results_stored_total", "counter", "Results handed to the store, by outcome.", ("outcome",))
SPOOL_RECORDS = Metric(
    "tidesight_spool_records", "gauge", "Objects on the local disk that wait for the store; a result is two."
)
SPOOL_BYTES = Metric(
    "tidesight_spool_bytes", "gauge", "Size of the spool's files, of which a little may be stored already."
)
SPOOL_OLDEST = Metric(
    "tidesight_spool_oldest_age_seconds",
    "gauge",
    "Age of the oldest object that waits for the store; 0 when none does.",
)
UPLOADS = Metric(
    "tidesight_uploads_total", "counter", "Uploads from the spool: stored, failed, refused, replaced.", ("outcome",)
)
BUILD_INFO = Metric("tidesight_build_info", "gauge", "Always 1; the version is in the label.", ("version",))
MODEL_INFO = Metric(
    "tidesight_model_info",
    "gauge",
    "Always 1; what runs is in the labels.",
    ("model", "engine", "head", "input", "tuned"),
)

CATALOGUE = (
    REQUESTS, REQUEST_SECONDS, STAGE_SECONDS, REFUSED, IN_FLIGHT, QUEUE_LENGTH, QUEUE_OLDEST, PREDICTED_WAIT,
    WORKERS, WORKER_RESTARTS, READY, CONNECTIONS, BODY_BYTES, RECEIVED_BYTES, REQUEST_TIME, BUSY_TIME,
    DETECTIONS, STORED, SPOOL_RECORDS, SPOOL_BYTES, SPOOL_OLDEST, UPLOADS, BUILD_INFO, MODEL_INFO,
)  # fmt: skip


class Telemetry:
    """The metrics of a catalogue, an instance's by default, with the process's CPU and memory beside them."""

    def __init__(self, catalogue: tuple[Metric, ...] = CATALOGUE) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second sample for each counter, of no use here
        self._metrics = {metric.name: self._create(metric) for metric in catalogue}
        self._children: dict[tuple[str, ...], Any] = {}  # `labels` costs as much as counting does

    def _create(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "counter":
            return Counter(metric.name, metric.help, metric.labels, registry=self._registry)
        if metric.kind == "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=self._registry)
        return Histogram(metric.name, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets)

    def count(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Add to a counter, or to a gauge."""
        self._child(metric, labels).inc(amount)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._child(metric, labels).set(value)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Put a value, in the metric's unit, into a histogram."""
        self._child(metric, labels).observe(value)

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        key = (metric.name, *labels)
        child = self._children.get(key)
        if child is None:
            whole = self._metrics[metric.name]
            child = self._children[key] = whole.labels(*labels) if labels else whole
        return child

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
