"""Rules for HorizontalPodAutoscalers and KEDA's ScaledObjects; the facts behind them: `autoscaling/hpa.py`."""

from collections.abc import Iterator, Sequence

from tidesight.deploying.documents import Document, Keys
from tidesight.deploying.lint import Rule, Told

_STABLE_S = 60  # less than this downwards and the number follows every pause
_TOLERATED = 10  # pods from which on one more is within the tolerance of 10 %


def _behavior(document: Document) -> tuple[Keys, dict[str, dict[str, object]]] | None:
    if document.get("kind") == "HorizontalPodAutoscaler":
        return ("spec", "behavior"), document.get("spec", "behavior", default={})
    if document.get("kind") == "ScaledObject":
        where = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")
        return where, document.get(*where, default={})
    return None


def _externals(document: Document) -> Iterator[tuple[Keys, dict[str, object]]]:
    for index, metric in enumerate(document.get("spec", "metrics", default=())):
        if metric.get("type") == "External":
            yield ("spec", "metrics", index, "external"), metric.get("external", {})


def bounds(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A least that is above the most."""
    if document.get("kind") not in ("HorizontalPodAutoscaler", "ScaledObject"):
        return
    scaled = document.get("kind") == "ScaledObject"
    low, high = ("minReplicaCount", "maxReplicaCount") if scaled else ("minReplicas", "maxReplicas")
    least, most = document.get("spec", low, default=0 if scaled else 1), document.get("spec", high, default=100)
    if least > most:
        yield ("spec", low), f"{low} {least} is more than {high} {most}; lower one or raise the other"
    if scaled and least < 1:
        told = f"{low} is 0, and nothing holds a request while there are no pods: set 1, or use KEDA's HTTP add-on"
        yield ("spec", low), told


def stabilisation(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A number that flaps, or that comes late."""
    found = _behavior(document)
    if found is None:
        return
    where, behavior = found
    if not behavior:
        told = (
            "no behavior: 300 s downwards and 4 pods or 100 % each 15 s upwards apply unseen; write out what you want"
        )
        yield where, told
        return
    follows = any(True for _ in _externals(document))
    down = behavior.get("scaleDown", {}).get("stabilizationWindowSeconds", 300)
    if isinstance(down, int) and down < _STABLE_S and not follows:
        told = f"scaleDown waits {down} s: every pause ends pods that the next minute needs; set 60 to 600"
        yield (*where, "scaleDown", "stabilizationWindowSeconds"), told
    up = behavior.get("scaleUp", {}).get("stabilizationWindowSeconds", 0)
    if isinstance(up, int) and up > 0:
        told = f"scaleUp waits {up} s on top of metrics that are late already; set 0"
        yield (*where, "scaleUp", "stabilizationWindowSeconds"), told


def tolerance(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """Steps of less than 10 % that are never taken."""
    if document.get("kind") != "HorizontalPodAutoscaler" or not any(True for _ in _externals(document)):
        return
    most = document.get("spec", "maxReplicas", default=1)
    loose = [
        side for side in ("scaleUp", "scaleDown")
        if str(document.get("spec", "behavior", side, "tolerance", default="0.1")) not in ("0", "0.0")
    ]  # fmt: skip
    if loose and most > _TOLERATED:
        told = f"the metric is a number of pods, and above {_TOLERATED} one more is within the tolerance of 10 %"
        fix = f"set tolerance 0 in {' and '.join(loose)} (Kubernetes 1.35), or keep maxReplicas at {_TOLERATED}"
        yield ("spec", "behavior"), f"{told}: it is never asked for; {fix}"


def value_of_pods(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A metric that is multiplied by the pods it asks for."""
    for where, external in _externals(document):
        target = external.get("target")
        if isinstance(target, dict) and target.get("type") == "Value":
            told = "an external Value is multiplied by the ready pods, which runs away when the metric is their number"
            yield (*where, "target", "type"), f"{told}; use AverageValue"


def damped_twice(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """A decision that is stabilised again by whoever carries it out."""
    if document.get("kind") != "HorizontalPodAutoscaler":
        return
    names = [str(one.get("metric", {}).get("name", "")) for _, one in _externals(document)]  # type: ignore[attr-defined]
    if any("desired_replicas" in name for name in names):
        window = document.get("spec", "behavior", "scaleDown", "stabilizationWindowSeconds", default=300)
        if window:
            told = f"the number was decided and damped already; scaleDown holds it {window} s longer; set 0"
            yield ("spec", "behavior", "scaleDown"), told


def keda_nulls(document: Document, _: Sequence[Document]) -> Iterator[Told]:
    """An empty answer that reads as no load."""
    if document.get("kind") != "ScaledObject":
        return
    for index, trigger in enumerate(document.get("spec", "triggers", default=())):
        if trigger.get("type") != "prometheus":
            continue
        if str(trigger.get("metadata", {}).get("ignoreNullValues", "true")) != "false":
            told = "an empty answer of Prometheus reads as 0 and scales down; set ignoreNullValues: 'false'"
            yield ("spec", "triggers", index, "metadata"), told
    fallback = document.get("spec", "fallback")
    if not fallback:
        yield ("spec",), "no fallback: while Prometheus is lost the number stays where it is; add spec.fallback"
    elif fallback.get("behavior", "static") == "static":
        told = "a static fallback sets a number that may be less than there are; use currentReplicasIfHigher"
        yield ("spec", "fallback"), told


def two_autoscalers(document: Document, others: Sequence[Document]) -> Iterator[Told]:
    """Two that scale the same thing to different numbers."""
    name = document.get("spec", "scaleTargetRef", "name")
    if document.get("kind") not in ("HorizontalPodAutoscaler", "ScaledObject") or name is None:
        return
    beside = [
        one for one in others
        if one is not document
        and one.get("kind") in ("HorizontalPodAutoscaler", "ScaledObject")
        and one.get("spec", "scaleTargetRef", "name") == name
        and one.path.parent == document.path.parent
    ]  # fmt: skip
    if beside:
        yield (
            ("spec", "scaleTargetRef"),
            f"{name} is also scaled by {beside[0].path.name}: they undo each other; keep one",
        )


RULES: tuple[Rule, ...] = (
    bounds, stabilisation, tolerance, value_of_pods, damped_twice, keda_nulls, two_autoscalers,
)  # fmt: skip
