"""App Engine: `app.yaml` of the flexible environment with the container, of the standard one with the wheel."""

from tidesight import __version__
from tidesight.deploying.manifests import Manifest, Object, present
from tidesight.deploying.plan import Plan

_FLEXIBLE = """\
For: gcloud app deploy app.yaml --image-url IMAGE
The container of the other targets, on machines. Their agents ask /healthz and /readyz."""
_STANDARD = """\
For: gcloud app deploy app.yaml
No container here: App Engine installs requirements.txt. Write to /tmp alone, which counts as memory.
/_ah/warmup is asked before the first request; any answer will do, the model is loaded by the start itself."""
_RUNTIME = "python312"
_PORT = "8080"


def flexible(plan: Plan) -> list[Manifest]:
    """`app.yaml` of the flexible environment."""
    number, has = plan.number, plan.platform.instance
    app = {
        "runtime": "custom",
        "env": "flex",
        "service": "default",
        "service_account": plan.deploy.account,
        "resources": {
            "cpu": round(has.vcpu),
            "memory_gb": has.memory_gib,
            "disk_size_gb": round(_real(number["disk_gib"])),
        },
        "automatic_scaling": {
            "min_num_instances": plan.platform.scaling.bounds.least,
            "max_num_instances": plan.platform.scaling.bounds.most,
            "cool_down_period_sec": round(_real(number["cool_down_period_s"])),
            "cpu_utilization": {"target_utilization": number["target_utilization"]},
        },
        "liveness_check": {
            "path": "/healthz", "check_interval_sec": 10, "timeout_sec": 5, "failure_threshold": 6,
            "success_threshold": 1, "initial_delay_sec": 60,
        },
        "readiness_check": {
            "path": "/readyz", "check_interval_sec": 5, "timeout_sec": 5, "failure_threshold": 2,
            "success_threshold": 1, "app_start_timeout_sec": 300,
        },
        "env_variables": plan.environment,
    }  # fmt: skip
    return [Manifest("app.yaml", _FLEXIBLE, (app,))]


def standard(plan: Plan) -> list[Manifest]:
    """`app.yaml` of the standard environment."""
    number = plan.number
    scaling = present(
        min_instances=plan.platform.scaling.bounds.least,
        max_instances=plan.platform.scaling.bounds.most,
        min_idle_instances=number["min_idle_instances"] or None,
        target_cpu_utilization=number["target_cpu_utilization"],
        target_throughput_utilization=number["target_throughput_utilization"],
        max_concurrent_requests=number["max_concurrent_requests"],
        min_pending_latency=f"{round(_real(number['min_pending_latency_s']) * 1000)}ms",
        max_pending_latency=f"{round(_real(number['max_pending_latency_s']) * 1000)}ms",
    )
    app: Object = {
        "runtime": _RUNTIME,
        "service": "default",
        "service_account": plan.deploy.account,
        "instance_class": number["instance_class"],
        "entrypoint": "tidesight serve",
        "automatic_scaling": scaling,
        "inbound_services": ["warmup"],
        "handlers": [{"url": "/.*", "script": "auto", "secure": "always"}],
        "env_variables": {**plan.environment, "TIDESIGHT_ENGINE": "onnxruntime"},
    }
    return [Manifest("app.yaml", _STANDARD, (app,))]


def requirements(plan: Plan) -> str:
    """`requirements.txt` of the standard environment: this version and the store's client; its wheel may lie beside."""
    extra = "[gcs]" if plan.deploy.store_scheme == "gs" else ""
    return f"--find-links .\ntidesight{extra}=={__version__}\n"


def _real(value: object) -> float:
    return float(str(value))
