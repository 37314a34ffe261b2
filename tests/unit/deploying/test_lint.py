"""Every rule of the linter notices what it is about, on manifests that are right but for that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.unit.deploying.configs import write_config
from tidesight.commands.deploy import deploy
from tidesight.deploying.documents import read_documents
from tidesight.deploying.lint import lint, rules
from tidesight.deploying.plan import TARGETS
from tidesight.deploying.render import render, write
from tidesight.deploying.settings import read_config
from tidesight.errors import ConfigError

DEPLOY = Path(__file__).parents[3] / "deploy"
POD = "base/deployment.yaml"
CONTAINER = "spec.template.spec.containers.0"
RUN = "spec.template.metadata.annotations"
GONE = object()


def variables(**changes: str) -> Callable[[Any], Any]:
    """Changes some environment variables."""
    return lambda env: [{**one, "value": changes.get(one["name"], one["value"])} for one in env]


BITES: list[tuple[str, str, str, object, str]] = [
    ("probe-timeouts", POD, f"{CONTAINER}.livenessProbe.timeoutSeconds", 1, "gives up after 1 s"),
    ("probe-timeouts", POD, f"{CONTAINER}.livenessProbe.httpGet.path", "/readyz", "ask /healthz"),
    ("probe-start", POD, f"{CONTAINER}.startupProbe", GONE, "no startupProbe"),
    ("probe-start", POD, f"{CONTAINER}.startupProbe.failureThreshold", 3, "gives up after 3 s"),
    ("probe-start", POD, f"{CONTAINER}.readinessProbe", GONE, "no readinessProbe"),
    ("cpu-and-threads", POD, f"{CONTAINER}.resources.limits.cpu", "1500m", "1 threads"),
    ("cpu-and-threads", POD, f"{CONTAINER}.resources.limits.cpu", GONE, "no CPU limit"),
    ("cpu-and-threads", POD, f"{CONTAINER}.resources.requests.cpu", "500m", "set both to the same"),
    ("cpu-and-threads", POD, f"{CONTAINER}.env", lambda env: [*env, {"name": "TIDESIGHT_WORKERS", "value": "4"}], "share 1 CPUs"),
    ("memory-limit", POD, f"{CONTAINER}.resources.limits.memory", GONE, "no memory limit"),
    ("grace-and-drain", POD, "spec.template.spec.terminationGracePeriodSeconds", 30, "requests are cut; set 35"),
    ("grace-and-drain", POD, f"{CONTAINER}.lifecycle", GONE, "no preStop sleep"),
    ("grace-and-drain", POD, f"{CONTAINER}.env", variables(TIDESIGHT_DEADLINE_S="60"), "less than the deadline of 60 s"),
    ("owned-replicas", POD, "spec.replicas", 3, "each apply sets the number back"),
    ("rolling-update", POD, "spec.strategy", GONE, "maxUnavailable to 0"),
    ("disruption-budget", "base/disruption.yaml", "spec.maxUnavailable", 0, "nodes cannot be emptied"),
    ("disruption-budget", "base/disruption.yaml", "spec.minAvailable", 1, "nodes cannot be emptied"),
    ("hardened", POD, f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False, "readOnlyRootFilesystem: true"),
    ("bounds", "overlays/cpu/hpa.yaml", "spec.minReplicas", 50, "minReplicas 50 is more than maxReplicas 40"),
    ("bounds", "overlays/keda/scaled-object.yaml", "spec.minReplicaCount", 0, "nothing holds a request"),
    ("stabilisation", "overlays/cpu/hpa.yaml", "spec.behavior", GONE, "apply unseen"),
    ("stabilisation", "overlays/cpu/hpa.yaml", "spec.behavior.scaleDown.stabilizationWindowSeconds", 0, "set 60 to 600"),
    ("stabilisation", "overlays/cpu/hpa.yaml", "spec.behavior.scaleUp.stabilizationWindowSeconds", 60, "set 0"),
    ("tolerance", "overlays/external/hpa.yaml", "spec.behavior.scaleUp.tolerance", GONE, "within the tolerance of 10 %"),
    ("value-of-pods", "overlays/external/hpa.yaml", "spec.metrics.0.external.target.type", "Value", "use AverageValue"),
    ("damped-twice", "overlays/external/hpa.yaml", "spec.behavior.scaleDown.stabilizationWindowSeconds", 300, "300 s longer"),
    ("keda-nulls", "overlays/keda/scaled-object.yaml", "spec.triggers.0.metadata.ignoreNullValues", GONE, "reads as 0"),
    ("keda-nulls", "overlays/keda/scaled-object.yaml", "spec.fallback", GONE, "no fallback"),
    ("keda-nulls", "overlays/keda/scaled-object.yaml", "spec.fallback.behavior", GONE, "currentReplicasIfHigher"),
    ("run-bounds", "service.yaml", RUN, {}, "no maxScale"),
    ("run-bounds", "service.yaml", RUN, lambda at: {**at, "autoscaling.knative.dev/minScale": "99"}, "minScale 99"),
    ("run-concurrency", "service.yaml", "spec.template.spec.containerConcurrency", 80, "requests wait in a full instance"),
    ("run-concurrency", "service.yaml", f"{CONTAINER}.resources.limits.cpu", "500m", "set it to 1"),
    ("run-end", "service.yaml", f"{CONTAINER}.env", variables(TIDESIGHT_GRACE_S="20"), "kills 10 s after SIGTERM"),
    ("run-end", "service.yaml", "spec.template.spec.timeoutSeconds", 1, "answers are thrown away"),
    ("run-background", "service.yaml", f"{CONTAINER}.env", variables(TIDESIGHT_STORE_MODE="async"), "has no CPU"),
    ("run-probes", "service.yaml", f"{CONTAINER}.startupProbe", GONE, "no startupProbe on /readyz"),
    ("app-engine-most", "flex/app.yaml", "automatic_scaling.max_num_instances", GONE, "no max_num_instances"),
    ("app-engine-most", "standard/app.yaml", "automatic_scaling.max_instances", GONE, "no max_instances"),
    ("app-engine-health", "flex/app.yaml", "readiness_check", GONE, "set path: /readyz"),
    ("app-engine-host", "standard/app.yaml", "env_variables.TIDESIGHT_HOST", "127.0.0.1", "only the instance itself"),
]  # fmt: skip


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of which the linter has nothing to say."""
    folder = tmp_path_factory.mktemp("good")
    config = read_config(write_config(folder, kubernetes_version="1.37", max_instances=40))
    standard = render(read_config(write_config(folder)), "app-engine-standard")
    flexible = render(read_config(write_config(folder)), "app-engine-flex")
    return {
        **render(config, "gke"),
        **render(config, "cloud-run"),
        "flex/app.yaml": flexible["app.yaml"],
        "standard/app.yaml": standard["app.yaml"],
    }


def changed(value: Any, path: list[str], new: Any) -> Any:
    """The value with something inside of it replaced, added or taken out."""
    key: Any = int(path[0]) if path[0].isdecimal() else path[0]
    if len(path) > 1:
        value[key] = changed(value[key], path[1:], new)
    elif new is GONE:
        del value[key]
    else:
        value[key] = new(value[key]) if callable(new) else new
    return value


def test_what_is_rendered_has_nothing_to_be_found(rendered: dict[str, str], tmp_path: Path) -> None:
    write(rendered, tmp_path)
    assert lint(read_documents([tmp_path])) == []
    assert lint(read_documents([DEPLOY / target for target in TARGETS])) == []


@pytest.mark.parametrize(("rule", "file", "path", "new", "said"), BITES)
def test_what_bites_is_found(
    rendered: dict[str, str], tmp_path: Path, rule: str, file: str, path: str, new: object, said: str
) -> None:
    write(rendered, tmp_path)
    first, *others = yaml.safe_load_all(rendered[file])
    (tmp_path / file).write_text(yaml.safe_dump_all([changed(first, path.split("."), new), *others]))
    found = lint(read_documents([tmp_path]))
    assert {one.rule for one in found} == {rule}, found
    assert said in found[0].detail
    assert found[0].path.endswith(file)


def test_every_rule_has_a_case() -> None:
    assert {bite[0] for bite in BITES} | {"two-autoscalers"} == set(rules())
    assert all(rules().values())


def test_two_autoscalers_of_one_deployment(rendered: dict[str, str], tmp_path: Path) -> None:
    write(rendered, tmp_path)
    (tmp_path / "overlays/cpu/more.yaml").write_text(rendered["overlays/keda/scaled-object.yaml"])
    assert {one.rule for one in lint(read_documents([tmp_path]))} == {"two-autoscalers"}


def test_the_line_is_that_of_the_value(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    text = (DEPLOY / "cloud-run/service.yaml").read_text().replace("timeoutSeconds: 3", "timeoutSeconds: 1")
    file.write_text(text)
    (found,) = lint(read_documents([file]))
    assert "timeoutSeconds: 1" in text.splitlines()[found.line - 1]
    assert str(found).startswith(f"{file}:{found.line}: run-end: ")


def test_what_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no YAML in"):
        read_documents([tmp_path])
    with pytest.raises(ConfigError, match="there is no"):
        read_documents([tmp_path / "absent"])
    (tmp_path / "a.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="cannot read"):
        read_documents([tmp_path])
    for odd in ("- 1\n- 2\n", "kind: Deployment\nspec: 3\n", "kind: Deployment\nspec: {template: {spec: {containers: [3, null]}}}\n",
                "kind: HorizontalPodAutoscaler\nspec: {metrics: 3, behavior: [1]}\n", "kind: ScaledObject\nspec: null\n",
                "kind: PodDisruptionBudget\nspec: []\n"):  # fmt: skip
        (tmp_path / "a.yaml").write_text("a: 1\n---\n" + odd)
        assert {one.rule for one in lint(read_documents([tmp_path]))} - set(rules()) <= {"shape"}


def test_the_command_prints_and_exits(tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(deploy, ["lint", str(DEPLOY / "gke")])
    assert (done.exit_code, done.stdout) == (0, "nothing found\n")
    file = tmp_path / "app.yaml"
    file.write_text("runtime: custom\nenv: flex\nautomatic_scaling: {}\n")
    done = run(deploy, ["lint", str(file)])
    assert done.exit_code == 1
    assert f"{file}:3: app-engine-most: no max_num_instances" in done.stdout
    assert '"rule":"app-engine-host"' in run(deploy, ["lint", "--json", str(file)]).stdout
    out = tmp_path / "out"
    done = run(
        deploy,
        ["render", "--target", "cloud-run", "--config", str(DEPLOY / "tidesight.toml"), "--out", str(out), "--json"],
    )
    assert (out / "service.yaml").is_file() and '"target":"cloud-run"' in done.stdout
