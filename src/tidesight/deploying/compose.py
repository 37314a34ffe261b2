"""Compose: instances behind an Envoy, with Prometheus and Grafana beside them, for whoever has Docker."""

from tidesight.deploying.manifests import Manifest, Object, present
from tidesight.deploying.plan import PORT, Plan

_ABOUT = """\
For: docker compose up --scale tidesight=4
Instances behind Envoy on http://127.0.0.1:8080, Prometheus on :9090, Grafana on :3000. The number of instances is
what --scale says: Compose has no autoscaler. Images other than Tidesight's are named here and fetched by Docker."""
_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
_ENVOY = """\
The front: least requests of two, health checks by /readyz, an instance with three 5xx in a row left out for a while.
429 and 503 of an instance are its answer to too much work, and are not tried again elsewhere."""


def render(plan: Plan) -> list[Manifest]:
    """The services, and the configuration of the front."""
    volumes: Object = {"prometheus": {}, "grafana": {}}
    if plan.deploy.store_scheme == "folder":
        volumes["results"] = {}
    compose = {
        "name": plan.deploy.name,
        "services": {
            "tidesight": _instance(plan),
            "front": _front(),
            "prometheus": _prometheus(),
            "grafana": _grafana(),
        },
        "volumes": volumes,
    }
    return [Manifest("compose.yaml", _ABOUT, (compose,)), Manifest("envoy.yaml", _ENVOY, (_envoy(plan),))]


def _hardened(**fields: object) -> Object:
    return {**fields, "read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


def _instance(plan: Plan) -> Object:
    folder = plan.deploy.store_scheme == "folder"
    environment = dict(plan.environment)
    if folder:
        environment["TIDESIGHT_STORE"] = "/var/lib/tidesight/results"
    has = plan.platform.instance
    return _hardened(
        **present(
            image=plan.deploy.image,
            environment=environment,
            cpus=has.vcpu,
            mem_limit=f"{round(has.memory_gib * 1024)}m",
            tmpfs=["/tmp", "/var/spool/tidesight:uid=65532"],  # noqa: S108  # of the container
            volumes=["results:/var/lib/tidesight/results"] if folder else None,
            stop_grace_period=f"{round(plan.platform.drain.grace_s)}s",
            restart="unless-stopped",
        )
    )


def _front() -> Object:
    return _hardened(
        image="docker.io/envoyproxy/envoy:v1.34-latest",
        command=["envoy", "-c", "/etc/envoy/envoy.yaml"],
        volumes=["./envoy.yaml:/etc/envoy/envoy.yaml:ro"],
        ports=[f"127.0.0.1:{PORT}:{PORT}"],
        depends_on=["tidesight"],
        restart="unless-stopped",
    )


def _prometheus() -> Object:
    return _hardened(
        image="docker.io/prom/prometheus:v3.5.0",
        command=["--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/prometheus"],
        volumes=["../observability/prometheus:/etc/prometheus:ro", "prometheus:/prometheus"],
        ports=["127.0.0.1:9090:9090"],
        restart="unless-stopped",
    )


def _grafana() -> Object:
    return _hardened(
        image="docker.io/grafana/grafana:12.1.0",
        environment={"GF_AUTH_ANONYMOUS_ENABLED": "true", "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer"},
        volumes=[
            "../observability/grafana/provisioning:/etc/grafana/provisioning:ro",
            "../observability/grafana/dashboards:/var/lib/grafana/dashboards:ro",
            "grafana:/var/lib/grafana",
        ],
        tmpfs=["/tmp"],  # noqa: S108  # of the container
        ports=["127.0.0.1:3000:3000"],
        restart="unless-stopped",
    )


def _envoy(plan: Plan) -> Object:
    manager = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "tidesight",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "tidesight", "timeout": _seconds(plan, 1)}}
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_EXTENSIONS}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "http",
        "address": _address("0.0.0.0", PORT),  # noqa: S104  # published on 127.0.0.1 alone
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    admin = {"address": _address("0.0.0.0", 9901)}  # noqa: S104  # not published; Prometheus asks it
    return {"admin": admin, "static_resources": {"listeners": [listener], "clusters": [_cluster()]}}


def _cluster() -> Object:
    return {
        "name": "tidesight",
        "type": "STRICT_DNS",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "1s",
        "dns_refresh_rate": "1s",
        "respect_dns_ttl": False,
        "health_checks": [
            {
                "timeout": "2s", "interval": "2s", "unhealthy_threshold": 2, "healthy_threshold": 1,
                "http_health_check": {"path": "/readyz"},
            }
        ],
        "outlier_detection": {"consecutive_5xx": 3, "base_ejection_time": "5s", "max_ejection_percent": 50},
        "load_assignment": {
            "cluster_name": "tidesight",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address("tidesight", PORT)}}]}],
        },
    }  # fmt: skip


def _address(host: str, port: int) -> Object:
    return {"socket_address": {"address": host, "port_value": port}}


def _seconds(plan: Plan, more_s: float) -> str:
    return f"{plan.deploy.deadline_s + more_s:g}s"
