"""What `[deploy]` may say, and what is said about the rest: the line, what is wrong, what to do."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploying.configs import config_text, write_config
from tidesight.deploying.checks import BODY_SHARE
from tidesight.deploying.plan import TARGETS, plan
from tidesight.deploying.render import render
from tidesight.deploying.settings import DeploySettings, line_of, read_config
from tidesight.errors import ConfigError
from tidesight.serving.memory import held_bytes

EVERYWHERE = ("gke", "kubernetes", "cloud-run", "app-engine-flex", "app-engine-standard")


def refusal(path: Path, target: str = "gke") -> str:
    with pytest.raises(ConfigError) as error:
        render(read_config(path), target)
    return error.value.detail


def test_every_target_is_rendered_from_the_same_file(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    for target in EVERYWHERE:
        assert render(read_config(path), target)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imagee": "x"}, ("line 5: ", "unknown key 'imagee'", "did you mean image")),
        ({"max_instances": "10"}, ("line 5: ", "max_instances", "expected a whole number")),
        (
            {"min_instances": 5, "max_instances": 4},
            ("line 5: ", "min_instances 5 is more than max_instances 4", "lower"),
        ),
        ({"vcpu": 0}, ("line 5: ", "vcpu", "0.08 to 416")),
        ({"scaling": "gpu"}, ("line 5: ", "one of cpu, in-flight")),
        ({"name": "Bad_Name"}, ("line 5: ", "lower-case letters")),
        ({"store": "ftp://there"}, ("line 4: ", "gs://BUCKET/PREFIX")),
        ({"store": "gs://"}, ("line 4: ", "gs://BUCKET/PREFIX")),
        ({"kubernetes_version": "latest"}, ("line 5: ", "such as 1.33")),
        ({"target": 150.0}, ("line 5: ", "above 100")),
        ({"deadline_s": 1.0, "objective_ms": 2000.0}, ("line 6: ", "longer than deadline_s", "lower one or raise")),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], said: tuple[str, ...]
) -> None:
    detail = refusal(write_config(tmp_path, **changes))
    for part in ("tidesight.toml", *said):
        assert part in detail


@pytest.mark.parametrize(
    ("target", "changes", "said"),
    [
        ("gke", {"image": None}, "image: gke runs a container; build one"),
        ("cloud-run", {"image": "registry.example:5000/tidesight"}, "line 2: image: registry.example:5000/tidesight has no tag"),
        ("cloud-run", {"project": None}, "project: set the Google Cloud project"),
        ("gke", {"min_instances": 0}, "line 5: min_instances: nothing holds a request while there are no pods: set 1"),
        ("app-engine-flex", {"min_instances": 0}, "line 5: min_instances: the flexible environment never goes to zero"),
        ("gke", {"concurrency": 200}, "line 5: concurrency: 200 bodies of 8 MiB do not fit a quarter of 2048 MiB: set at most 64"),
        ("cloud-run", {"vcpu": 0.5}, "line 5: on cloud-run, vcpu 0.5: less than one vCPU takes one request at a time"),
        ("cloud-run", {"vcpu": 4, "memory_gib": 1.0}, "line 6: on cloud-run, memory_gib 1: 4 vCPU need at least 2 GiB"),
        ("gke", {"memory_gib": 20.0}, "line 5: on gke, memory_gib 20 with vcpu 1: set memory_gib to 1 to 6.5"),
        ("gke", {"memory_gib": 0.2, "vcpu": 0.1}, "line 5: memory_gib: 204.8 MiB are too few"),
        ("app-engine-standard", {"memory_gib": 8.0}, "line 5: memory_gib: F4_1G has 1 vCPU and 3 GiB"),
        ("cloud-run", {"deadline_s": 9.5}, "line 5: deadline_s: 9.5 s is longer than the drain: cloud-run kills 10 s after"),
        ("app-engine-standard", {"deadline_s": 5.0}, "lower deadline_s to 2"),
        ("kubernetes", {"deadline_s": 60.0}, "raise grace_s in [platform.gke]"),
        ("cloud-run", {"store": "results"}, "line 4: store: 'results' is on the instance and gone with it"),
        ("cloud-run", {"store": "s3://bucket"}, "line 4: store: cloud-run has no credentials for s3://"),
        ("gke", {"store": "s3://bucket"}, "store_secret: s3:// needs credentials"),
        ("compose", {}, "line 4: store: gs:// needs credentials that a rendered compose.yaml cannot hold"),
        ("gke", {"store": None, "store_mode": "async"}, "line 4: store_mode: async keeps results for a store"),
        ("app-engine-standard", {"store_mode": "async"}, "line 5: store_mode: the standard environment has no disk"),
        ("app-engine-flex", {"keys_secret": "keys"}, "line 5: keys_secret: App Engine mounts no secrets"),
        ("cloud-run", {"scaling": "keda"}, "line 5: scaling: cloud-run scales by its own rule"),
        ("gke", {"scaling": "in-flight", "target": 9.0}, "line 6: target: 9 is never reached, an instance takes 8"),
        ("gke", {"scaling": "queue", "target": 8.0}, "line 6: target: 8 is never reached, an instance takes 7"),
        ("gek", {}, "unknown key 'gek'; did you mean gke"),
    ],
)  # fmt: skip
def test_what_a_target_cannot_do_is_refused(tmp_path: Path, target: str, changes: dict[str, Any], said: str) -> None:
    assert said in refusal(write_config(tmp_path, **changes), target)


def test_numbers_of_one_platform_win_and_are_checked(tmp_path: Path) -> None:
    path = write_config(
        tmp_path, "[platform.cloud-run]\nmax_instances = 3\n[platform.gke]\ngrace_s = 61.0\n", deadline_s=50.0
    )
    config = read_config(path)
    assert plan(config, "gke").grace_s == 60
    assert "deadline_s" in refusal(path, "cloud-run")
    path = write_config(tmp_path, "[platform.gke]\nmax_instances = 0\n")
    assert "line 6: max_instances: expected at least 1, got 0" in refusal(path)


def test_an_unknown_table_and_a_file_that_is_none(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[deploi]\n")
    assert "line 5: unknown key 'deploi'; did you mean deploy?" in refusal(path)
    path = write_config(tmp_path, "[platform.gkee]\nvcpu = 3\n")
    assert "line 5: unknown key 'gkee'; did you mean gke?" in refusal(path)
    path.write_text("deploy = 3\n")
    assert "line 1: deploy: expected a table" in refusal(path)
    path.write_text("[deploy\n")
    assert f"cannot read {path} as TOML: Expected ']'" in refusal(path)
    assert "absent.toml: No such file or directory; name one with --config" in refusal(tmp_path / "absent.toml")


def test_the_line_is_where_the_value_ends() -> None:
    text = 'a = 1\n"b" = [\n  1,\n]\n[t]\nc.d = 2\n'
    assert [line_of(text, keys) for keys in (("a",), ("b",), ("t",), ("t", "c", "d"), ("x",))] == [1, 4, 5, 6, None]


def test_every_key_has_a_source_and_a_line() -> None:
    for one in DeploySettings().numbers:
        assert one.about
        assert line_of(config_text(**{one.key: "x"}), ("deploy", one.key))


def test_bodies_get_the_share_that_the_instance_gives_them() -> None:
    assert held_bytes(2**30, 2**30, 1, 1) == 2**30 // BODY_SHARE


def test_the_whole_life_of_a_request_fits_every_end(tmp_path: Path) -> None:
    config = read_config(write_config(tmp_path, deadline_s=1.0, store_mode="async"))
    for target in ("gke", "kubernetes", "cloud-run", "app-engine-flex"):
        planned = plan(config, target)
        assert planned.grace_s + planned.store_drain_s + 1 <= planned.platform.drain.grace_s
        assert planned.store_drain_s >= 2
    assert set(TARGETS) >= set(EVERYWHERE)
