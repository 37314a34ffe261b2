"""Rules for Cloud Run services and for App Engine's app.yaml."""

from collections.abc import Iterator, Sequence

from tidesight.deploying.documents import Document, Keys
from tidesight.deploying.lint import Rule, Told
from tidesight.deploying.lint_kubernetes import cpus, environment, seconds

_REVISION: Keys = ("spec", "template", "spec")
_ANNOTATIONS: Keys = ("spec", "template", "metadata", "annotations")
_CONTAINER: Keys = (*_REVISION, "containers", 0)
_CLOUD_RUN_END_S = 10
_PER_VCPU = 16  # requests in an instance beyond which they wait longer than an instance takes to start


def _is_cloud_run(document: Document) -> bool:
    return bool(
        document.get("kind") == "Service" and str(document.get("apiVersion", default="")).startswith("serving.knative")
    )


def run_bounds(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A service without a most, whose bill has none either."""
    if not _is_cloud_run(document):
        return
    least, most = (document.get(*_ANNOTATIONS, f"autoscaling.knative.dev/{one}") for one in ("minScale", "maxScale"))
    if most is None:
        yield (
            _ANNOTATIONS,
            "no maxScale: the vendor's default applies, and the bill follows; set autoscaling.knative.dev/maxScale",
        )
    elif seconds(least, 0) > seconds(most, 0):
        yield (*_ANNOTATIONS, "autoscaling.knative.dev/minScale"), f"minScale {least} is more than maxScale {most}"


def run_concurrency(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """Instances that fill up long before another one is started."""
    if not _is_cloud_run(document):
        return
    cpu = cpus(document.get(*_CONTAINER, "resources", "limits", "cpu", default="1"))
    concurrency = document.get(*_REVISION, "containerConcurrency", default=80)
    if cpu < 1 and concurrency > 1:
        told = f"containerConcurrency {concurrency} with {cpu:g} vCPU is refused; set it to 1, or cpu to 1"
        yield (*_REVISION, "containerConcurrency"), told
    elif concurrency > _PER_VCPU * cpu:
        told = f"containerConcurrency {concurrency} (80 by default) on {cpu:g} vCPU: requests wait in a full instance"
        yield (*_REVISION, "containerConcurrency"), f"{told} while none is started; set 4 to {_PER_VCPU * cpu:g}"


def run_end(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """An instance is killed before it has drained."""
    if not _is_cloud_run(document):
        return
    known = environment(document, _CONTAINER)
    drain_s = seconds(known.get("TIDESIGHT_GRACE_S"), 10) + seconds(known.get("TIDESIGHT_STORE_DRAIN_S"), 5)
    if drain_s + 1 > _CLOUD_RUN_END_S:
        told = f"a drain of {drain_s:g} s, and Cloud Run kills {_CLOUD_RUN_END_S} s after SIGTERM"
        yield (*_CONTAINER, "env"), f"{told}; lower TIDESIGHT_GRACE_S and TIDESIGHT_STORE_DRAIN_S to 9 s together"
    timeout_s = document.get(*_REVISION, "timeoutSeconds", default=300)
    deadline_s = seconds(known.get("TIDESIGHT_DEADLINE_S"), 10)
    if timeout_s < deadline_s:
        told = f"timeoutSeconds {timeout_s} is less than the deadline of {deadline_s:g} s: answers are thrown away"
        yield (*_REVISION, "timeoutSeconds"), f"{told}; raise it"


def run_background(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """Uploads that stand still because there is no request."""
    if not _is_cloud_run(document):
        return
    throttled = str(document.get(*_ANNOTATIONS, "run.googleapis.com/cpu-throttling", default="true")) != "false"
    if throttled and environment(document, _CONTAINER).get("TIDESIGHT_STORE_MODE") == "async":
        told = "async uploads run behind the answer, where a throttled instance has no CPU: results wait and are lost"
        yield _ANNOTATIONS, f"{told}; set run.googleapis.com/cpu-throttling: 'false', or store in mode sync"


def run_probes(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """Requests that come before the model is loaded."""
    if _is_cloud_run(document) and document.get(*_CONTAINER, "startupProbe", "httpGet", "path") != "/readyz":
        told = "no startupProbe on /readyz: requests come as soon as the port is open, and get 503; add it"
        yield (*_CONTAINER, "startupProbe"), told


def app_engine_most(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """An application without a most, whose bill has none either."""
    if document.get("runtime") is None or document.get("automatic_scaling") is None:
        return
    key = "max_num_instances" if document.get("env") in ("flex", "flexible") else "max_instances"
    if document.get("automatic_scaling", key) is None:
        yield ("automatic_scaling",), f"no {key}: the vendor's default applies, and the bill follows; set it"


def app_engine_health(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """Instances that count as healthy because something answers."""
    if document.get("env") not in ("flex", "flexible"):
        return
    for key, path in (("liveness_check", "/healthz"), ("readiness_check", "/readyz")):
        if document.get(key, "path") != path:
            yield (key,), f"{key} does not ask {path}, so an instance without a model gets requests; set path: {path}"


def app_engine_host(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """An instance that nobody reaches."""
    if document.get("runtime") is not None and document.get("env_variables", "TIDESIGHT_HOST") != "0.0.0.0":  # noqa: S104
        yield ("env_variables",), "TIDESIGHT_HOST is not 0.0.0.0: only the instance itself reaches it; set it"


RULES: tuple[Rule, ...] = (
    run_bounds, run_concurrency, run_end, run_background, run_probes, app_engine_most, app_engine_health,
    app_engine_host,
)  # fmt: skip
