"""What Docker and Podman are told, and what of this machine a container sees."""

import os
import stat
from pathlib import Path

import pytest

from tests.unit.fleet.fake_runtime import value
from tidesight.commands.fleet_containers import ContainerWishes, container_wishes, containers
from tidesight.errors import ConfigError
from tidesight.fleet.cgroup_mounts import groups_of
from tidesight.fleet.containers import Containers, Limits, Mount, run_command

LIMITS = Limits(0.25, 512 * 2**20)


@pytest.mark.parametrize("runtime", ["docker", "podman"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_what_a_runtime_is_told(runtime: str, uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getegid", lambda: uid)
    mounts = [Mount(Path("/data/model.onnx")), Mount(Path("/data/out"), writable=True)]
    how = Containers(runtime, "tidesight:1", Path("/f/default"), ("--gpus", "all"), mounts, ("TIDESIGHT_API_KEYS",))
    words = run_command(how, LIMITS, "tidesight-i1", ["--port", "0"], [Mount(Path("/f/spool"), writable=True)])
    assert words[:2] == [runtime, "run"]
    assert words[-5:] == ["--gpus", "all", "tidesight:1", "--port", "0"]
    for option, expected in {
        "--cpus": "0.25", "--memory": f"{512 * 2**20}b", "--memory-swap": f"{512 * 2**20}b", "--network": "host",
        "--label": "tidesight.fleet=/f/default", "--name": "tidesight-i1", "--cap-drop": "ALL", "--pull": "never",
        "--security-opt": "no-new-privileges", "--tmpfs": "/tmp", "--user": "1000:1000" if uid else "65532:65532",
    }.items():  # fmt: skip
        assert value(words, option) == [expected]
    assert "--read-only" in words
    assert value(words, "--volume") == [
        "/data/model.onnx:/data/model.onnx:ro",
        "/data/out:/data/out",
        "/f/spool:/f/spool",
    ]
    assert value(words, "--env") == ["TIDESIGHT_API_KEYS"]
    assert value(words, "--userns") == (["keep-id"] if runtime == "podman" and uid else [])


def test_the_way_through_roots_home() -> None:
    how = Containers("podman", "x", Path("/root/f"))
    assert value(run_command(how, LIMITS, "n", [], []), "--volume") == []
    given = run_command(how, LIMITS, "n", [], [Mount(Path("/root/m"))])
    assert value(given, "--volume") == ["/root/f/way:/root", "/root/m:/root/m:ro"]


@pytest.mark.parametrize("version", [1, 2])
def test_the_groups_of_another_process(version: int, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    names = ["cpu,cpuacct", "memory"] if version == 1 else [""]
    mounts, groups = [], []
    for name in names:
        mounted = tmp_path / f"mounted-{name}"
        (mounted / "pods" / "libpod-abc").mkdir(parents=True)
        (mounted / "pods" / "libpod-abc" / "memory.current").write_text("1")
        kind = "cgroup" if version == 1 else "cgroup2"
        mounts.append(f"31 23 0:28 / {mounted} rw - {kind} {kind} rw,{name}")
        groups.append(f"3:{name}:/pods/libpod-abc")
    for who, text in (("self/mountinfo", mounts), ("7/cgroup", groups)):
        (proc / who).parent.mkdir(parents=True)
        (proc / who).write_text("\n".join(text) + "\n")
    found = groups_of(7, "abc", proc)
    assert list(found) == (["cpu", "cpuacct", "memory"] if version == 1 else [""])
    assert {folder.name for folder in found.values()} == {"libpod-abc"}
    assert groups_of(7, "another", proc) == groups_of(8, "abc", proc) == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("lxc", "x", ""), "expected docker or podman, got 'lxc'"),
        (("podman", None, ""), "--runtime needs --image"),
        ((None, "x", ""), "--image needs --runtime"),
        (("podman", "x", "'"), "--runtime-args: No closing quotation"),
    ],
)
def test_what_cannot_be(arguments: tuple[str | None, str | None, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        container_wishes(*arguments, {})


def test_settings_of_the_environment_reach_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in {
        "ENGINE": "openvino",
        "LOG_LEVEL": "debug",
        "API_KEYS": "k" * 16,
        "PORT": "1",
        "HOST": "h",
    }.items():
        monkeypatch.setenv(f"TIDESIGHT_{name}", text)
    wishes = container_wishes(
        "podman", "x", "--gpus 'a b'", {"engine": "onnxruntime", "deadline_s": 2.5, "model": None}
    )
    assert wishes is not None
    assert wishes.settings == {"engine": "onnxruntime", "log_level": "debug", "deadline_s": "2.5"}
    how, serve = containers(wishes, tmp_path)
    assert how.environment == ["TIDESIGHT_API_KEYS"]
    assert how.options == ["--gpus", "a b"]
    assert "k" * 16 not in f"{how}{serve}"
    results = tmp_path / "results"
    assert how.mounts == [Mount(results, writable=True)]
    assert value(serve, "--store") == [str(results)]
    assert results.stat().st_uid == (os.geteuid() or 65532)


def test_files_are_seen_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").touch()
    Path("keys").touch()
    settings = {"model": "m.onnx", "api_key_file": "keys", "store": "gs://bucket/x"}
    how, serve = containers(ContainerWishes("podman", "x", [], settings), tmp_path)
    assert how.mounts == [Mount(tmp_path / "m.onnx"), Mount(tmp_path / "keys")]
    assert value(serve, "--model") == [str(tmp_path / "m.onnx")]
    assert value(serve, "--store") == ["gs://bucket/x"]


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        ("m.onnx", 0, "cannot be read by user .* chown"),
        ("a:b", stat.S_IRWXU | stat.S_IRWXO, "with ':'"),
        ("absent", None, "No such file"),
    ],
)
def test_files_a_container_cannot_have(name: str, mode: int | None, told: str, tmp_path: Path) -> None:
    if mode is not None:
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    with pytest.raises(ConfigError, match=told):
        containers(ContainerWishes("podman", "x", [], {"model": str(tmp_path / name)}), tmp_path)


def test_a_store_that_a_container_cannot_write(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o500)
    if os.geteuid() != 0:
        store.chmod(0o400)
    with pytest.raises(ConfigError, match="cannot be written by user"):
        containers(ContainerWishes("podman", "x", [], {"store": store.as_uri()}), tmp_path)
