"""Cloud Run: one service in the Knative form, for `gcloud run services replace`."""

from tidesight.deploying.kubernetes import cpu_quantity
from tidesight.deploying.manifests import Manifest, Object, present
from tidesight.deploying.plan import PORT, Plan

_ABOUT = """\
For: gcloud run services replace service.yaml --region REGION
The store is reached as the service account. Custom scaling targets (60 % by default) have no field in this form.
Without `allUsers` as an invoker only callers with an identity token reach it; up.sh grants nothing to allUsers."""


def render(plan: Plan) -> list[Manifest]:
    """The service."""
    deploy = plan.deploy
    service: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": deploy.name,
            "labels": {"cloud.googleapis.com/location": deploy.region},
            "annotations": {"run.googleapis.com/ingress": "all"},
        },
        "spec": {
            "template": {"metadata": {"annotations": _annotations(plan)}, "spec": _revision(plan)},
            "traffic": [{"latestRevision": True, "percent": 100}],
        },
    }
    return [Manifest("service.yaml", _ABOUT, (service,))]


def _annotations(plan: Plan) -> dict[str, str]:
    # An upload behind the answer needs CPU when there is no request.
    throttled = plan.number["billing"] == "request" and plan.deploy.store_mode != "async"
    return {
        "autoscaling.knative.dev/minScale": str(plan.platform.scaling.bounds.least),
        "autoscaling.knative.dev/maxScale": str(plan.platform.scaling.bounds.most),
        "run.googleapis.com/execution-environment": "gen2",
        "run.googleapis.com/startup-cpu-boost": "true",
        "run.googleapis.com/cpu-throttling": "true" if throttled else "false",
    }


def _revision(plan: Plan) -> Object:
    deploy, has = plan.deploy, plan.platform.instance
    container = present(
        image=deploy.image,
        ports=[{"name": "http1", "containerPort": PORT}],
        env=[{"name": key, "value": value} for key, value in plan.environment.items()],
        resources={"limits": {"cpu": cpu_quantity(has.vcpu), "memory": f"{round(has.memory_gib * 1024)}Mi"}},
        startupProbe=_probe("/readyz", period_s=1, timeout_s=1, failures=60),
        livenessProbe=_probe("/healthz", period_s=10, timeout_s=5, failures=6),
        volumeMounts=[{"name": "keys", "mountPath": "/etc/tidesight/keys"}] if deploy.keys_secret else None,
    )
    keys = {"secretName": deploy.keys_secret, "items": [{"key": "latest", "path": "api-keys"}]}
    return present(
        containerConcurrency=has.concurrency,
        timeoutSeconds=int(deploy.deadline_s) + 1,
        serviceAccountName=deploy.account,
        containers=[container],
        volumes=[{"name": "keys", "secret": keys}] if deploy.keys_secret else None,
    )


def _probe(path: str, period_s: int, timeout_s: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }
