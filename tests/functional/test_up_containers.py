"""`tidesight up --runtime podman`: real containers of the real image, their limits and their end."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from tests.conftest import encode
from tests.functional.test_up import Up, post
from tidesight.detection.image import Pixels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the image may have to be built
MIB = 2**20
CLOUD_RUN = ("--platform", "cloud-run", "--cpu", "0.5", "--memory", "512Mi", "--min", "1", "--max", "2")


class UpInContainers(Up):
    """A running `tidesight up` of containers; `podman` is one with the test's own images."""

    @property
    def environment(self) -> dict[str, str]:
        from tests.functional.containers import LIMITS

        path = f"{self.folder}:{os.environ['PATH']}"
        return {**super().environment, "PATH": path, "TIDESIGHT_RUNTIME_ARGS": " ".join(LIMITS)}


@contextmanager
def up(engine: Any, folder: Path, *arguments: str) -> Iterator[UpInContainers]:
    """A fleet of containers, which is killed at the end when it still runs."""
    places = f"--root {engine.folder}/images --runroot {engine.folder}/run --runtime runc"
    podman = folder / "podman"
    podman.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} {places} "$@"\n')
    podman.chmod(0o755)
    fleet = UpInContainers(folder, "--runtime", "podman", "--image", "localhost/tidesight", *arguments)
    try:
        yield fleet
    finally:
        fleet.process.kill()
        fleet.process.wait()


def left(engine: Any, fleet: Up) -> list[str]:
    """Containers of a fleet."""
    label = f"label=tidesight.fleet={fleet.folder}/fleets/default"
    return str(engine.run("ps", "-a", "--filter", label, "--format", "{{.Names}}")).split()


def limits(pid: int) -> tuple[float, int]:
    """CPUs and bytes of memory that the kernel gives a process, read without the code under test."""
    paths = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    v1 = next((path for names, path in paths.items() if "cpu" in names.split(",")), "")
    if v1 and Path(f"/sys/fs/cgroup/cpu{v1}").is_dir():
        cpu, memory = Path(f"/sys/fs/cgroup/cpu{v1}"), Path(f"/sys/fs/cgroup/memory{paths['memory']}")
        quota, period = ((cpu / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period), int((memory / "memory.limit_in_bytes").read_text())
    folder = Path(f"/sys/fs/cgroup{paths['']}")
    quota, period = (folder / "cpu.max").read_text().split()
    return int(quota) / int(period), int((folder / "memory.max").read_text())


def ready(fleet: Up, count: int) -> list[dict[str, Any]]:
    shown = fleet.until_ready(count)
    instances = shown["instances"]
    assert isinstance(instances, list)
    return [one for one in instances if one["state"] == "ready"]


def test_a_fleet_of_containers(engine: Any, tmp_path: Path, astronaut: Pixels, astronaut_jpeg: bytes) -> None:
    store = tmp_path / "results"
    with up(engine, tmp_path, *CLOUD_RUN, "--store", str(store)) as fleet:
        url = fleet.url()
        assert "0.5 CPU, 512 MiB, enforced by podman" in fleet.text
        assert post(f"{url}", astronaut_jpeg) == 200  # held until the container is ready
        (one,) = ready(fleet, 1)
        assert one["how"] == "podman"
        assert limits(one["pid"]) == (0.5, 512 * MIB)
        status = Path(f"/proc/{one['pid']}/status").read_text()
        assert re.search(r"^Uid:\s+65532\b", status, re.M) and re.search(r"^CapEff:\s+0+$", status, re.M)
        until = time.monotonic() + 10
        while not (one["cpu"] and one["memory_bytes"]):  # what the scaling rule reads
            assert time.monotonic() < until
            (one,) = ready(fleet, 1)
        assert list(store.glob(".*")), "the store is the folder of this machine"

        big = encode(np.asarray(cv2.resize(astronaut, (3000, 3000)), np.uint8), ".jpg")
        with ThreadPoolExecutor(2) as callers:
            asked = [callers.submit(post, url, big) for _ in range(2)]
            time.sleep(0.3)
            fleet.process.send_signal(signal.SIGINT)
            assert [answer.result() for answer in asked] == [200, 200]
        assert fleet.process.wait(20) == 0
        assert left(engine, fleet) == []
        assert "SIGTERM: draining" in next((tmp_path / "fleets/default/instances").glob("i1.log")).read_text()


def test_a_container_that_ends_is_replaced_and_none_outlives_the_controller(engine: Any, tmp_path: Path) -> None:
    with up(engine, tmp_path, *CLOUD_RUN) as fleet:
        fleet.url()
        (first,) = ready(fleet, 1)
        (name,) = left(engine, fleet)
        engine.run("kill", name)
        fleet.until(r"(i1 crashed: ended with -9)")
        (second,) = ready(fleet, 1)
        assert second["id"] != first["id"]
        (after,) = left(engine, fleet)
        assert after != name
        fleet.process.kill()
        until = time.monotonic() + 10
        while left(engine, fleet) or psutil.pid_exists(second["pid"]):
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_container_without_the_memory_it_needs_says_so(engine: Any, tmp_path: Path) -> None:
    with up(engine, tmp_path, *CLOUD_RUN, "--memory", "64Mi") as fleet:
        fleet.url()
        fleet.until(r"INFO .* (i1 crashed: ended with -9: tidesight: (?:killed: )?out of memory)")
        shown = json.loads(fleet.run("status", "--json").stdout)
        assert any("out of memory" in one["reason"] for one in shown["instances"])
