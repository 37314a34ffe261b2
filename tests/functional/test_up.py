"""`tidesight up`, `status` and `scale` as a user types them, and the fleet's end: asked for, or not."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from tidesight.cli import main
from tidesight.runs.reader import RunReader

pytest.importorskip("envoy")

LIMIT_S = 40.0


class Up:
    """A running `tidesight up`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.said = folder / "said.txt"
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tidesight", "up", "--port", "0", "--memory", "256Mi", *arguments]
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TIDESIGHT_FLEETS": str(self.folder / "fleets"), "COLUMNS": "150"}

    @property
    def text(self) -> str:
        return self.said.read_text()

    def url(self) -> str:
        return self.until(r"listens on (http://\S+)\s")

    def until(self, pattern: str) -> str:
        """Wait until it has said something."""
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            if found := re.search(pattern, self.text):
                return found[1]
            assert self.process.poll() is None, self.text
            time.sleep(0.02)
        raise AssertionError(f"{pattern} was not said: {self.text}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command about this fleet."""
        command = [sys.executable, "-m", "tidesight", *arguments]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.environment, timeout=LIMIT_S
        )

    def until_ready(self, count: int) -> dict[str, object]:
        """Wait until so many instances are ready; the status."""
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            shown: dict[str, object] = json.loads(self.run("status", "--json").stdout)
            instances = shown["instances"]
            assert isinstance(instances, list)
            if sum(one["state"] == "ready" for one in instances) == count:
                return shown
        raise AssertionError(f"never {count} ready: {self.text}")


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[Up]:
    """A fleet, which is killed at the end when it still runs."""
    fleet = Up(folder, *arguments)
    try:
        yield fleet
    finally:
        fleet.process.kill()
        fleet.process.wait()


def post(url: str, picture: bytes) -> int:
    request = Request(f"{url}/v1/detect", picture, {"Content-Type": "image/jpeg"})
    with urlopen(request, timeout=LIMIT_S) as answer:
        status: int = answer.status
        return status


def test_up_scale_status_and_ctrl_c(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    with up(tmp_path, "--platform", "cloud-run", "--min", "1", "--max", "3", "--cpu", "0.5") as fleet:
        url = fleet.url()
        assert post(url, astronaut_jpeg) == 200  # held until an instance is ready
        assert fleet.run("scale", "2").stdout == "2 instances are wanted\n"
        shown = fleet.until_ready(2)
        assert (shown["url"], shown["platform"], shown["pinned"]) == (url, "cloud-run", 2)
        told = fleet.run("status").stdout
        assert "0.5 CPU, 256 MiB" in told
        refused = fleet.run("scale", "9")
        assert (refused.returncode, refused.stderr) == (2, "tidesight: scale: expected 0 to 3 (--max), got 9\n")
        assert fleet.run("replace").stdout == "2 instances were replaced\n"
        assert fleet.run("scale", "auto").returncode == 0
        with urlopen(str(shown["page"]), timeout=LIMIT_S) as page:
            assert b"<title>" in page.read()

        fleet.process.send_signal(signal.SIGINT)
        assert fleet.process.wait(LIMIT_S) == 0
        assert "would have cost" in fleet.text
        assert "1 2xx" in fleet.text
        assert "page" in fleet.text
        assert "Traceback" not in fleet.text
        missing = fleet.run("status")
        assert (missing.returncode, "tidesight up --name default" in missing.stderr) == (1, True)

        (folder,) = (tmp_path / "fleets" / "default" / "runs").iterdir()
        run = RunReader(folder)
        assert run.truncated is None
        assert run.facts["platform"]["name"] == "cloud-run"
        assert {row.instance for row in run.samples()} == {"front", "i1", "i2", "i3", "i4"}
        assert any(row.policy == "cloud-run's own" for row in run.decisions())


def test_instances_with_keys_are_looked_after_all_the_same(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-the-callers\n")
    with up(tmp_path, "--min", "1", "--max", "1", "--cpu", "0.5", "--api-key-file", str(keys)) as fleet:
        url = fleet.url()
        fleet.until_ready(1)
        with pytest.raises(HTTPError) as refused:
            post(url, astronaut_jpeg)
        assert refused.value.code == 401
        refused.value.close()
        request = Request(
            f"{url}/v1/detect", astronaut_jpeg, {"Content-Type": "image/jpeg", "X-API-Key": "a-key-of-the-callers"}
        )
        with urlopen(request, timeout=LIMIT_S) as answer:
            assert answer.status == 200
        time.sleep(1.5)
        (instance,) = json.loads(fleet.run("status", "--json").stdout)["instances"]
        assert instance["in_flight"] is not None  # its metrics are read


def test_a_killed_controller_leaves_nothing_behind_and_the_next_one_goes_on(tmp_path: Path) -> None:
    arguments = ("--platform", "gke", "--min", "1", "--max", "3", "--cpu", "0.3")
    with up(tmp_path, *arguments) as fleet:
        fleet.url()
        fleet.run("scale", "2")
        fleet.until_ready(2)
        family = psutil.Process(fleet.process.pid).children(recursive=True)
        assert len(family) >= 4  # two instances, the template, Envoy
        fleet.process.kill()
        fleet.process.wait()
        _, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []
    with up(tmp_path, *arguments) as fleet:
        assert "going on with the count it wanted" in fleet.until(r"((?s:.*)listens on)")
        assert fleet.until_ready(2)["pinned"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--platform", "gkf"), "gke"),
        (("--platform", "gke", "--min", "0"), "min_instances"),
        (("--platform", "gke", "--min", "5", "--max", "2"), "max_instances"),
        (("--platform", "gke", "--cpu", "half"), "cpu: expected a number"),
        (("--platform", "gke", "--memory", "12"), "memory: expected at least 64Mi"),
        (("--platform", "gke", "--set", "colour=3"), "colour"),
        (("--platform", "gke", "--policy", "kpb"), "unknown policy 'kpb'"),
        (("--platform", "gke", "--policy-set", "a=1"), "--policy-set needs --policy"),
        (("--platform", "gke", "--host", "nowhere.invalid"), "nowhere.invalid"),
        (("--platform", "gke", "--model", "absent.onnx"), "absent.onnx"),
        (("--platform", "gke", "--api-key-file", "absent"), "absent"),
        (("--platform", "gke", "--name", "../up"), "name"),
        (("--runtime", "lxc", "--image", "x"), "--runtime: expected docker or podman, got 'lxc'"),
        (("--runtime", "podman"), "--runtime needs --image"),
        (("--image", "x"), "--image needs --runtime"),
        (("--runtime", "podman", "--image", "x", "--runtime-args", "'"), "--runtime-args: No closing quotation"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TIDESIGHT_FLEETS", str(tmp_path / "fleets"))
    monkeypatch.setattr(sys, "argv", ["tidesight", "up", "--port", "0", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert said.startswith("tidesight: ")
    assert said.count("\n") == 1
    assert told in said
