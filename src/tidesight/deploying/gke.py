"""What GKE has beyond Kubernetes: Managed Prometheus, and a load balancer by the Gateway API."""

from tidesight.deploying.manifests import Manifest, Object, present, resource
from tidesight.deploying.plan import Plan

_POLICY = "networking.gke.io/v1"
_GATEWAY = "gateway.networking.k8s.io/v1"


def extras(plan: Plan) -> list[Manifest]:
    """What is added to the base."""
    return [
        Manifest("base/pod-monitoring.yaml", "Managed Prometheus scrapes every pod.", (_pod_monitoring(plan),)),
        Manifest("base/gateway.yaml", _ABOUT, _load_balancer(plan)),
    ]


_ABOUT = """\
The load balancer, an external Application Load Balancer. Plain HTTP: for HTTPS add a listener with a certificate.
Its health check asks /readyz; a pod that leaves is drained; a request is given up a second after its deadline."""


def _pod_monitoring(plan: Plan) -> Object:
    key = {"secret": {"name": plan.deploy.keys_secret, "key": "api-keys"}}
    endpoint = present(
        port="http",
        path="/metrics",
        interval="15s",
        authorization={"type": "Bearer", "credentials": key} if plan.deploy.keys_secret else None,
    )
    spec = {
        "selector": {"matchLabels": {"app.kubernetes.io/instance": plan.deploy.name}},
        "endpoints": [endpoint],
    }
    return resource("PodMonitoring", "monitoring.googleapis.com/v1", plan.deploy.name, spec)


def _load_balancer(plan: Plan) -> tuple[Object, ...]:
    name = plan.deploy.name
    service = {"group": "", "kind": "Service", "name": name}
    gateway = {
        "gatewayClassName": "gke-l7-global-external-managed",
        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
    }
    route = present(
        parentRefs=[{"name": name}],
        hostnames=[plan.deploy.domain] if plan.deploy.domain else None,
        rules=[{"backendRefs": [{"name": name, "port": 80}]}],
    )
    health = {
        "default": {
            "checkIntervalSec": 5,
            "timeoutSec": 5,
            "healthyThreshold": 1,
            "unhealthyThreshold": 2,
            "config": {
                "type": "HTTP",
                "httpHealthCheck": {"portSpecification": "USE_SERVING_PORT", "requestPath": "/readyz"},
            },
        },
        "targetRef": service,
    }
    backend = {
        "default": {
            "timeoutSec": int(plan.deploy.deadline_s) + 1,
            "connectionDraining": {"drainingTimeoutSec": round(plan.platform.drain.grace_s)},
            "logging": {"enabled": True, "sampleRate": 1_000_000},
        },
        "targetRef": service,
    }
    return (
        resource("Gateway", _GATEWAY, name, gateway),
        resource("HTTPRoute", _GATEWAY, name, route),
        resource("HealthCheckPolicy", _POLICY, name, health),
        resource("GCPBackendPolicy", _POLICY, name, backend),
    )
