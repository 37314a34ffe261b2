"""The part of Envoy's configuration that faces callers: HTTP, routes, deadlines, retries, the access log."""

from typing import Any

from tidesight.fleet.envoy_types import FLEET, FRONT, NOT_AGAIN, extension, seconds, typed
from tidesight.fleet.front import FrontFiles, FrontSettings

_IDLE = "620s"  # as instances, for load balancers in front
_HEAD_TIMEOUT = "10s"
_HEAD_KB = 64
_STREAM_IDLE = "300s"
_OWN_DEADLINE = "^0*[1-9][0-9]{0,8}$"
_DEADLINE = "x-request-timeout-ms"
_PROBLEM = {
    "title": "Refused by the load balancer",
    "status": "%RESPONSE_CODE%",
    "detail": "%LOCAL_REPLY_BODY%",
    "id": "%REQ(x-request-id)%",
}
_LOG_LINE = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "request_id": "%REQ(x-request-id)%",
    "traceparent": "%REQ(traceparent)%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "status": "%RESPONSE_CODE%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "instance": "%UPSTREAM_HOST%",
    "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "first_byte_ms": "%RESPONSE_DURATION%",
}


def listener(settings: FrontSettings, files: FrontFiles) -> dict[str, Any]:
    """Where callers connect."""
    manager = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": FRONT,
        "address": {"socket_address": {"address": settings.host, "port_value": settings.port}},
        "enable_reuse_port": False,  # else a second Envoy on the same port would quietly take half of the connections
        "filter_chains": [{"filters": [extension("http", manager, **_http(settings, files))]}],
    }


def _http(settings: FrontSettings, files: FrontFiles) -> dict[str, Any]:
    return {
        "stat_prefix": FRONT,
        "route_config": {"name": FRONT, "virtual_hosts": [_virtual_host(settings)]},
        "early_header_mutation_extensions": [
            extension(
                "deadline",
                "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=[_set_header(_DEADLINE, f"%REQ(x-envoy-expected-rq-timeout-ms?{_DEADLINE})%")],
            )
        ],
        "http_filters": [
            extension(
                "deadline",
                "extensions.filters.http.header_mutation.v3.HeaderMutation",
                mutations={"request_mutations": [_set_header("x-envoy-upstream-rq-timeout-ms", f"%REQ({_DEADLINE})%")]},
            ),
            extension("router", "extensions.filters.http.router.v3.Router"),
        ],
        "access_log": [_access_log(files)],
        "local_reply_config": {
            "body_format": {"json_format": _PROBLEM, "content_type": "application/problem+json"},
        },
        # What callers say with x-envoy-* headers is theirs to wish, not to set; but the deadline, see above.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "request_id_extension": {
            "typed_config": typed(
                "extensions.request_id.uuid.v3.UuidRequestIdConfig",
                pack_trace_reason=False,  # a caller's id stays as it is
                use_request_id_for_trace_sampling=False,
            )
        },
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "max_request_headers_kb": _HEAD_KB,
        "request_headers_timeout": _HEAD_TIMEOUT,
        "stream_idle_timeout": _STREAM_IDLE,
        "common_http_protocol_options": {"idle_timeout": _IDLE},
        # As instances do; ApacheBench speaks it. A request without a host is one for us.
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "localhost"},
        "drain_timeout": "1s",
    }


def _virtual_host(settings: FrontSettings) -> dict[str, Any]:
    own = {"name": _DEADLINE, "string_match": {"safe_regex": {"regex": _OWN_DEADLINE}}}
    too_large = {"name": "content-length", "range_match": {"start": settings.max_body_bytes + 1, "end": 2**63 - 1}}
    refusal = f"the body is larger than {settings.max_body_bytes} bytes"
    limit = seconds(settings.timeout_s)
    return {
        "name": FRONT,
        "domains": ["*"],
        "include_request_attempt_count": False,
        "response_headers_to_remove": [NOT_AGAIN],
        "routes": [
            {
                "match": {"prefix": "/", "headers": [too_large]},
                "direct_response": {"status": 413, "body": {"inline_string": refusal}},
            },
            _route(settings, {"prefix": "/", "headers": [own]}, {"timeout": limit}),
            # No time-out of the route, which instances would be told as the caller's.
            _route(settings, {"prefix": "/"}, {"timeout": "0s", "max_stream_duration": {"max_stream_duration": limit}}),
        ],
    }


def _route(settings: FrontSettings, match: dict[str, Any], timeouts: dict[str, Any]) -> dict[str, Any]:
    return {
        "match": match,
        "route": {"cluster": FLEET, "retry_policy": _retries(), **timeouts},
        "request_body_buffer_limit": settings.max_body_bytes,  # what is not kept cannot be sent again
    }


def _retries() -> dict[str, Any]:
    priorities = "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    hosts = "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.1s"},
        "retry_host_predicate": [extension("envoy.retry_host_predicates.previous_hosts", hosts)],
        "host_selection_retry_max_attempts": 200,  # draws of four until none of them was tried: rare with two instances
        # Two tries among the instances, the third at the activator.
        "retry_priority": extension("envoy.retry_priorities.previous_priorities", priorities, update_frequency=2),
    }


def _set_header(name: str, value: str) -> dict[str, Any]:
    return {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _access_log(files: FrontFiles) -> dict[str, Any]:
    return extension(
        "file",
        "extensions.access_loggers.file.v3.FileAccessLog",
        path=str(files.access_log),
        log_format={"json_format": _LOG_LINE},
    )
