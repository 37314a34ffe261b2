"""The part of Envoy's configuration that faces instances: who is there, who is well, who is next, and bounds."""

from typing import Any

from tidesight.fleet.endpoints import Endpoint, assignment
from tidesight.fleet.envoy_types import ACTIVATOR, FLEET, INSTANCES, extension, seconds, typed
from tidesight.fleet.front import FrontFiles, FrontSettings

READY_PATH, ALIVE_PATH = "/readyz", "/healthz"

# An instance keeps an idle connection for 620 s; Envoy must be the one to close it, or a request could meet its end.
_IDLE = "600s"
_CONNECT_TIMEOUT = "1s"
# Percent of what is active, and enough for all that an instance may lose when it ends.
_RETRY_SHARE, _RETRIES_AT_LEAST = 50, 200


def clusters(settings: FrontSettings, files: FrontFiles, activator: Endpoint | None) -> list[dict[str, Any]]:
    """The instances, the activator if there is one, and both as one: the first that has somebody well."""
    found = [_instances(settings, files)]
    if activator is not None:
        found.append(_activator(settings, activator))
    return [*found, _fleet(settings, [cluster["name"] for cluster in found])]


def _instances(settings: FrontSettings, files: FrontFiles) -> dict[str, Any]:
    source = {"path": str(files.endpoints), "watched_directory": {"path": str(files.endpoints.parent)}}
    return {
        **_cluster(INSTANCES, settings, READY_PATH),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": {"path_config_source": source, "resource_api_version": "V3"}},
        "outlier_detection": _outliers(settings),
    }


def _activator(settings: FrontSettings, where: Endpoint) -> dict[str, Any]:
    return {
        **_cluster(ACTIVATOR, settings, ALIVE_PATH),
        "type": "STATIC",
        "load_assignment": assignment(ACTIVATOR, [where]),
    }


def _fleet(settings: FrontSettings, names: list[str]) -> dict[str, Any]:
    kind = "extensions.clusters.aggregate.v3.ClusterConfig"
    return {
        "name": FLEET,
        "connect_timeout": _CONNECT_TIMEOUT,
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": extension("envoy.clusters.aggregate", kind, clusters=names),
        "circuit_breakers": _breakers(settings),
    }


def _cluster(name: str, settings: FrontSettings, probe_path: str) -> dict[str, Any]:
    http = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": _IDLE},
    )
    return {
        "name": name,
        "connect_timeout": _CONNECT_TIMEOUT,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
        "load_balancing_policy": {"policies": [{"typed_extension_config": _least_requests()}]},
        "common_lb_config": {
            # Nobody well: the next cluster's turn, not a guess among the sick.
            "healthy_panic_threshold": {"value": 0},
            # Who is well or sick counts at once. By default such news is gathered for a second.
            "update_merge_window": "0s",
        },
        "health_checks": [_probe(settings, probe_path)],
        # Else one that was taken off the list would get requests for as long as it stays well.
        "ignore_health_on_host_removal": True,
        "circuit_breakers": _breakers(settings),
    }


def _least_requests() -> dict[str, Any]:
    # The best of four drawn by chance: of two, in a small fleet, it is often the wrong one; and the best of all would
    # be the same one again when a request is tried again, as who fails at once always has the fewest.
    return extension(
        "least",
        "extensions.load_balancing_policies.least_request.v3.LeastRequest",
        choice_count=4,
        active_request_bias={"default_value": 1.0, "runtime_key": "tidesight.active_request_bias"},
    )


def _probe(settings: FrontSettings, path: str) -> dict[str, Any]:
    interval = seconds(settings.check_interval_s)
    return {
        "timeout": seconds(settings.check_timeout_s),
        "interval": interval,
        # A new one is looked at as soon as it is known. The default for a cluster without traffic is once in 60 s.
        "no_traffic_interval": interval,
        "no_traffic_healthy_interval": interval,
        "unhealthy_threshold": settings.checks_failed,
        "healthy_threshold": 1,
        "reuse_connection": True,
        "http_health_check": {"path": path},
    }


def _outliers(settings: FrontSettings) -> dict[str, Any]:
    """Out for a while: who refuses connections, does not answer several at once, or answers 502 to 504.

    A 429 is an answer, and so is a 500. A time-out is the caller's deadline: one counts, but every connection that an
    instance accepts begins the count anew.
    """
    ejection = seconds(settings.ejection_s)
    return {
        "interval": "1s",
        "base_ejection_time": ejection,
        "max_ejection_time": seconds(settings.ejection_s * 10),
        "max_ejection_percent": 50,  # more than half sick is a sickness of something else
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": settings.failures,
        "enforcing_consecutive_local_origin_failure": 100,
        "consecutive_gateway_failure": settings.failures,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "enforcing_failure_percentage_local_origin": 0,
        # It answers /readyz, or else it would be out for that.
        "successful_active_health_check_uneject_host": False,
    }


def _breakers(settings: FrontSettings) -> dict[str, Any]:
    limit = settings.max_requests
    budget = {"budget_percent": {"value": _RETRY_SHARE}, "min_retry_concurrency": _RETRIES_AT_LEAST}
    threshold = {
        "max_connections": limit,
        "max_pending_requests": limit,
        "max_requests": limit,
        "retry_budget": budget,
    }
    return {"thresholds": [threshold]}
