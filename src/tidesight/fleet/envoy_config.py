"""Envoy's configuration as a value: settings in, what Envoy reads at its start out.

A request's way: listener `front` -> cluster `fleet` -> `instances` (whichever is well and has the fewest requests), and
when none is, `activator`. Only the list of instances changes while Envoy runs, by a file (see `endpoints`): with an
empty list all requests go to the activator, and no change of it leaves a moment in which there is nobody to ask.

Deadlines: with a caller's own (`x-request-timeout-ms`, or `x-envoy-expected-rq-timeout-ms`) Envoy waits no longer and
tells the instance what is left of it. Without one the instance's default holds, and `timeout_s` is the last resort.

Retried are requests that no instance has begun: a connection that was refused or lost before the request left, and
an instance's 503. Never 429, which says when to come back, nor what may have been worked on. The second try goes to
another instance, the third to the activator.
"""

from typing import Any

from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.envoy_clusters import clusters
from tidesight.fleet.envoy_listener import listener
from tidesight.fleet.envoy_types import FRONT, extension
from tidesight.fleet.front import FrontFiles, FrontSettings

# Upper bounds in milliseconds; those of an instance's own histogram, and what a held request can take.
_BUCKETS_MS = (1, 2.5, 5, 10, 20, 35, 50, 75, 100, 150, 250, 500, 1000, 1500, 2500, 5000, 10000, 30000, 60000, 300000)
_ADMIN_PATHS = ("/ready", "/stats", "/clusters", "/listeners", "/server_info", "/drain_listeners", "/reopen_logs")


def bootstrap(settings: FrontSettings, files: FrontFiles, activator: Endpoint | None) -> dict[str, Any]:
    """The whole configuration; JSON is YAML too.

    Args:
        settings: How to listen, wait, check and bound.
        files: Where the list of instances comes from and the access log goes.
        activator: Who takes requests when no instance can; None has them refused.
    """
    return {
        "node": {"id": "tidesight", "cluster": "tidesight"},
        "admin": _admin(),
        "stats_flush_on_admin": True,  # no timer: histograms are merged when somebody asks for them
        "stats_config": {
            "histogram_bucket_settings": [{"match": {"prefix": f"http.{FRONT}."}, "buckets": list(_BUCKETS_MS)}]
        },
        "static_resources": {
            "listeners": [listener(settings, files)],
            "clusters": clusters(settings, files, activator),
        },
        "overload_manager": _overload(settings),
        # The watchdogs' default of five wake-ups a second and thread is most of what an idle Envoy does.
        "watchdogs": {name: _watchdog() for name in ("main_thread_watchdog", "worker_watchdog")},
    }


def _admin() -> dict[str, Any]:
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        # Without those that end Envoy or change it: a page in a browser can ask for any of them.
        "allow_paths": [{"exact": path} for path in _ADMIN_PATHS] + [{"prefix": f"{path}?"} for path in _ADMIN_PATHS]
        + [{"prefix": "/stats/prometheus"}],
    }  # fmt: skip


def _watchdog() -> dict[str, Any]:
    return {"miss_timeout": "10s", "megamiss_timeout": "30s"}


def _overload(settings: FrontSettings) -> dict[str, Any]:
    monitors, kinds = "envoy.resource_monitors.", "extensions.resource_monitors."
    heap, connections = f"{monitors}fixed_heap", f"{monitors}global_downstream_max_connections"
    return {
        "refresh_interval": "1s",
        "resource_monitors": [
            extension(heap, f"{kinds}fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=settings.max_heap_bytes),
            extension(
                connections,
                f"{kinds}downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=settings.max_connections,
            ),
        ],
        "actions": [
            {"name": f"envoy.overload_actions.{action}", "triggers": [{"name": heap, "threshold": {"value": share}}]}
            for action, share in (("shrink_heap", 0.9), ("stop_accepting_requests", 0.98))
        ],
    }
