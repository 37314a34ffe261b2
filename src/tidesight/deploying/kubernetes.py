"""Kubernetes: a base, one overlay for each scaling rule, and a root that takes the configured one."""

from tidesight.deploying import autoscalers, gke
from tidesight.deploying.manifests import Manifest, Object, present, resource
from tidesight.deploying.plan import PORT, Plan
from tidesight.deploying.settings import RULES

_UID = 65532


def render(plan: Plan) -> list[Manifest]:
    """All files."""
    base = _base(plan)
    if plan.target == "gke":
        base += gke.extras(plan)
    names = [one.path.removeprefix("base/") for one in base]
    files = [*base, _kustomization("base/kustomization.yaml", "What every overlay begins with.", names)]
    for rule in RULES:
        scaler = autoscalers.manifest(plan, rule)
        files.append(scaler)
        own = scaler.path.rpartition("/")[2]
        about = f"The base, scaled by {rule}."
        files.append(_kustomization(f"overlays/{rule}/kustomization.yaml", about, ["../../base", own]))
    about = "What `kubectl apply -k .` applies: the overlay of the configured rule, in its namespace."
    root = _kustomization("kustomization.yaml", about, ["namespace.yaml", f"overlays/{plan.deploy.scaling}"])
    root.documents[0]["namespace"] = plan.deploy.namespace
    namespace: Object = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": plan.deploy.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    return [
        *files,
        root,
        Manifest("namespace.yaml", "The strictest of the pod security standards holds.", (namespace,)),
    ]


def _kustomization(path: str, about: str, resources: list[str]) -> Manifest:
    document: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    }
    return Manifest(path, about, (document,))


def labels(plan: Plan) -> dict[str, str]:
    """By which all that belongs to the service is found."""
    return {"app.kubernetes.io/name": "tidesight", "app.kubernetes.io/instance": plan.deploy.name}


def _base(plan: Plan) -> list[Manifest]:
    name = plan.deploy.name
    disruption = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels(plan)},
    }
    service = {
        "selector": labels(plan),
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}],
    }
    about = (
        "One pod may be missing at a time. maxUnavailable, not minAvailable: the latter stops node drains at one pod."
    )
    return [
        Manifest("base/deployment.yaml", _DEPLOYMENT, (_deployment(plan),)),
        Manifest(
            "base/service.yaml", "Pods that are ready, in the cluster.", (resource("Service", "v1", name, service),)
        ),
        Manifest("base/service-account.yaml", _ACCOUNT, (_service_account(plan),)),
        Manifest("base/disruption.yaml", about, (resource("PodDisruptionBudget", "policy/v1", name, disruption),)),
        Manifest("base/network-policy.yaml", _NETWORK, (_network_policy(plan),)),
    ]


_DEPLOYMENT = """\
The instances. No `replicas`: the autoscaler owns the number, and applying this file again must not reset it.
Requests are the limits: the threads of an instance follow its CPU quota, and the HPA counts in requests.
The end of a pod: preStop, while the balancer learns of it; then SIGTERM, accepted requests, uploads; then SIGKILL."""
_ACCOUNT = "Who the pods are. They never talk to the Kubernetes API, so no token is mounted."
_NETWORK = """\
In: the service's port. Out: names, HTTPS (the store), and the node's metadata server (credentials).
Who may come in is narrowed by adding a `from`; the load balancer and the probes come from outside of the cluster."""


def _deployment(plan: Plan) -> Object:
    pod = {
        "serviceAccountName": plan.deploy.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": round(plan.platform.drain.lame_duck_s + plan.platform.drain.grace_s),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _UID,
            "runAsGroup": _UID,
            "fsGroup": _UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            _spread(plan, "topology.kubernetes.io/zone"),
            _spread(plan, "kubernetes.io/hostname"),
        ],
        "containers": [_container(plan)],
        "volumes": _volumes(plan),
    }
    spec = {
        "revisionHistoryLimit": 5,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": labels(plan)},
        "template": {"metadata": {"labels": labels(plan)}, "spec": pod},
    }
    return resource("Deployment", "apps/v1", plan.deploy.name, spec, labels=labels(plan))


def _spread(plan: Plan, key: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels(plan)},
    }


def _container(plan: Plan) -> Object:
    deploy, number = plan.deploy, plan.number
    amount = {
        "cpu": cpu_quantity(plan.platform.instance.vcpu),
        "memory": f"{round(plan.platform.instance.memory_gib * 1024)}Mi",
    }
    if plan.target == "gke":
        amount["ephemeral-storage"] = f"{round(float(str(number['ephemeral_storage_gib'])) * 1024)}Mi"
    secret = [{"secretRef": {"name": deploy.store_secret}}] if deploy.store_secret else None
    pause = round(plan.platform.drain.lame_duck_s)
    sleep = (
        {"sleep": {"seconds": pause}}
        if deploy.kubernetes_at_least(30)
        else {"exec": {"command": ["sleep", str(pause)]}}
    )
    return present(
        name="tidesight",
        image=deploy.image,
        ports=[{"name": "http", "containerPort": PORT}],
        env=[{"name": key, "value": value} for key, value in {"PORT": str(PORT), **plan.environment}.items()],
        envFrom=secret,
        resources={"requests": amount, "limits": dict(amount)},
        startupProbe=_probe("/readyz", period_s=1, timeout_s=2, failures=60),
        readinessProbe=_probe("/readyz", period_s=2, timeout_s=5, failures=3),
        livenessProbe=_probe("/healthz", period_s=10, timeout_s=5, failures=6),
        lifecycle={"preStop": sleep} if pause else None,
        securityContext={
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        volumeMounts=_mounts(plan),
    )


def cpu_quantity(vcpu: float) -> str:
    """CPUs as Kubernetes writes them."""
    return f"{vcpu:g}" if vcpu == int(vcpu) else f"{round(vcpu * 1000)}m"


def _probe(path: str, period_s: int, timeout_s: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def _volumes(plan: Plan) -> list[Object]:
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    if plan.deploy.store_mode == "async":
        volumes.append({"name": "spool", "emptyDir": {"sizeLimit": "512Mi"}})
    if plan.deploy.keys_secret:
        secret = {"secretName": plan.deploy.keys_secret, "defaultMode": 0o440}
        volumes.append({"name": "keys", "secret": secret})
    return volumes


def _mounts(plan: Plan) -> list[Object]:
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  # of the container
    if plan.deploy.store_mode == "async":
        mounts.append({"name": "spool", "mountPath": "/var/spool/tidesight"})
    if plan.deploy.keys_secret:
        mounts.append({"name": "keys", "mountPath": "/etc/tidesight/keys", "readOnly": True})
    return mounts


def _service_account(plan: Plan) -> Object:
    metadata: Object = {"name": plan.deploy.name}
    if plan.target == "gke":
        metadata["annotations"] = {"iam.gke.io/gcp-service-account": plan.deploy.account}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _network_policy(plan: Plan) -> Object:
    everywhere = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}
    egress: list[Object] = [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"to": [everywhere], "ports": [{"port": 443, "protocol": "TCP"}]},
    ]
    if plan.target == "gke":
        metadata = [{"ipBlock": {"cidr": f"169.254.169.{last}/32"}} for last in (252, 254)]
        ports = [{"port": port, "protocol": "TCP"} for port in (80, 988)]
        egress.append({"to": metadata, "ports": ports})
    spec = {
        "podSelector": {"matchLabels": labels(plan)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}],
        "egress": egress,
    }
    return resource("NetworkPolicy", "networking.k8s.io/v1", plan.deploy.name, spec)
