"""Rules for Deployments and what stands beside them."""

import re
from collections.abc import Iterator, Sequence

from tidesight.deploying.documents import Document, Keys
from tidesight.deploying.lint import Rule, Told

_POD: Keys = ("spec", "template", "spec")
_SLOWEST_START_S = 30
_LIVENESS_TIMEOUT_S = 5
_CLOSING_S = 1.0


def containers(document: Document) -> Iterator[tuple[Keys, dict[str, object]]]:
    """Where the containers of a workload are, and they."""
    if document.get("kind") not in ("Deployment", "StatefulSet"):
        return
    for index, one in enumerate(document.get(*_POD, "containers", default=())):
        yield (*_POD, "containers", index), one


def environment(document: Document, where: Keys) -> dict[str, str]:
    """The variables of a container that are plain values."""
    return {one.get("name", ""): str(one.get("value", "")) for one in document.get(*where, "env", default=())}


def seconds(text: object, default: float) -> float:
    """A number from a variable, or the default."""
    try:
        return float(str(text))
    except ValueError:
        return default


def cpus(quantity: object) -> float:
    """CPUs of a Kubernetes quantity; 0 when it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", str(quantity))
    return 0.0 if found is None else float(found[1]) / (1000 if found[2] else 1)


def probe_timeouts(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A probe that gives up too soon ends pods that are only busy."""
    for where, container in containers(document):
        probe = container.get("livenessProbe")
        if not isinstance(probe, dict):
            continue
        if probe.get("timeoutSeconds", 1) < _LIVENESS_TIMEOUT_S:
            told = (
                f"livenessProbe gives up after {probe.get('timeoutSeconds', 1)} s: under load pods are killed that work"
            )
            yield (*where, "livenessProbe", "timeoutSeconds"), f"{told}; set timeoutSeconds to 5 or more"
        if probe.get("httpGet", {}).get("path") == "/readyz":
            told = "livenessProbe asks /readyz, which is 503 while starting and draining: the pod is killed for it"
            yield (*where, "livenessProbe", "httpGet", "path"), f"{told}; ask /healthz"


def probe_start(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """Without a startup probe liveness decides about a start."""
    for where, container in containers(document):
        probe = container.get("startupProbe")
        if "livenessProbe" in container and not isinstance(probe, dict):
            yield where, "no startupProbe: liveness kills a slow start; add one on /readyz with failureThreshold 60"
        if isinstance(probe, dict):
            most_s = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
            if most_s < _SLOWEST_START_S:
                told = f"startupProbe gives up after {most_s} s; a throttled start takes longer: raise failureThreshold"
                yield (*where, "startupProbe"), told
        if "readinessProbe" not in container and container.get("ports"):
            yield where, "no readinessProbe: pods get requests before the model is loaded; add one on /readyz"


def cpu_and_threads(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A part of a CPU is paid for and used by no thread."""
    for where, _container in containers(document):
        limit = document.get(*where, "resources", "limits", "cpu")
        request = document.get(*where, "resources", "requests", "cpu")
        at = (*where, "resources")
        if limit is None:
            yield at, "no CPU limit: threads are as many as the machine has CPUs; set limits.cpu to requests.cpu"
            continue
        vcpu, workers = cpus(limit), seconds(environment(document, where).get("TIDESIGHT_WORKERS"), 0)
        if vcpu > 1 and vcpu != int(vcpu) and not workers:
            told = f"limits.cpu {limit} is {int(vcpu)} threads; the rest is paid for and used by none: set whole CPUs"
            yield (*at, "limits", "cpu"), told
        if workers > max(1.0, vcpu):
            told = f"TIDESIGHT_WORKERS {workers:g} share {vcpu:g} CPUs: the kernel stops them each period; leave it out"
            yield (*at, "limits", "cpu"), told
        if request is not None and cpus(request) != vcpu:
            told = f"requests.cpu {request} is not limits.cpu {limit}: the HPA counts in requests, threads in limits"
            yield (*at, "requests", "cpu"), f"{told}; set both to the same"


def memory_limit(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """Without a limit of memory one pod can take the node's."""
    for where, _container in containers(document):
        if document.get(*where, "resources", "limits", "memory") is None:
            told = "no memory limit: what an instance lets in follows it, and without one it is the node's; set it"
            yield (*where, "resources"), told


def grace_and_drain(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A pod is killed before it has drained."""
    for where, _container in containers(document):
        given_s = document.get(*_POD, "terminationGracePeriodSeconds", default=30)
        known = environment(document, where)
        drain_s = seconds(known.get("TIDESIGHT_GRACE_S"), 10) + seconds(known.get("TIDESIGHT_STORE_DRAIN_S"), 5)
        lame_duck_s = seconds(known.get("TIDESIGHT_LAME_DUCK_S"), 0)
        pause_s = document.get(*where, "lifecycle", "preStop", "sleep", "seconds")
        if pause_s is None:
            command = document.get(*where, "lifecycle", "preStop", "exec", "command", default=())
            pause_s = seconds(command[-1], 0) if command and "sleep" in " ".join(map(str, command)) else 0
        needed_s = pause_s + lame_duck_s + drain_s + _CLOSING_S
        if given_s < needed_s:
            parts = f"preStop {pause_s:g} s, drain {drain_s:g} s and 1 s"
            told = f"terminationGracePeriodSeconds {given_s} is less than {parts}"
            yield (*_POD, "terminationGracePeriodSeconds"), f"{told}: requests are cut; set {needed_s:g}"
        if not pause_s and not lame_duck_s:
            told = "no preStop sleep: the balancer sends requests to a pod that no longer listens; sleep 5 s"
            yield (*where, "lifecycle"), told
        deadline_s = seconds(known.get("TIDESIGHT_DEADLINE_S"), 10)
        if seconds(known.get("TIDESIGHT_GRACE_S"), 10) < deadline_s:
            told = (
                f"TIDESIGHT_GRACE_S is less than the deadline of {deadline_s:g} s: accepted requests are cut; raise it"
            )
            yield (*where, "env"), told


def owned_replicas(document: Document, others: Sequence[Document]) -> Iterator[Told]:
    """A fixed number of pods and an autoscaler undo each other."""
    if document.get("kind") != "Deployment" or document.get("spec", "replicas") is None:
        return
    name = document.get("metadata", "name")
    if any(one.get("spec", "scaleTargetRef", "name") == name for one in others):
        told = "replicas beside an autoscaler: each apply sets the number back; take replicas out"
        yield ("spec", "replicas"), told


def rolling_update(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A rollout that begins by taking pods away."""
    if document.get("kind") != "Deployment":
        return
    if document.get("spec", "strategy", "rollingUpdate", "maxUnavailable") != 0:
        told = "a rollout takes pods away first (25 % by default): set strategy.rollingUpdate.maxUnavailable to 0"
        yield ("spec", "strategy"), told


def disruption_budget(document: Document, others: Sequence[Document]) -> Iterator[Told]:
    """A budget that lets no node be emptied."""
    if document.get("kind") != "PodDisruptionBudget":
        return
    least = document.get("spec", "minAvailable")
    lowest = min(
        (one.get("spec", "minReplicas", default=1) for one in others if "minReplicas" in one.get("spec", default={})),
        default=1,
    )
    if least == "100%" or (isinstance(least, int) and least >= lowest) or document.get("spec", "maxUnavailable") == 0:
        told = "no pod may be missing when there are fewest, so nodes cannot be emptied; set maxUnavailable to 1"
        yield ("spec", "minAvailable" if least is not None else "maxUnavailable"), told


def hardened(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A container with more rights than it needs."""
    for where, _container in containers(document):
        context = document.get(*where, "securityContext", default={})
        drops = context.get("capabilities", {}).get("drop", ())
        wrong = [
            told
            for told, holds in (
                ("readOnlyRootFilesystem: true", context.get("readOnlyRootFilesystem") is True),
                ("allowPrivilegeEscalation: false", context.get("allowPrivilegeEscalation") is False),
                ("capabilities.drop: [ALL]", "ALL" in drops),
            )
            if not holds
        ]
        if wrong:
            yield (*where, "securityContext"), f"the container may do more than it needs; set {', '.join(wrong)}"


RULES: tuple[Rule, ...] = (
    probe_timeouts, probe_start, cpu_and_threads, memory_limit, grace_and_drain, owned_replicas, rolling_update,
    disruption_budget, hardened,
)  # fmt: skip
