"""The process beside a container: whatever ends first, nothing is left; with a runtime of a few lines of shell."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.fleet.fake_runtime import asked, runtime, until, value
from tidesight.errors import ConfigError, Unavailable
from tidesight.fleet.container_start import ContainerProcess, ContainerStart
from tidesight.fleet.container_watch import KILL
from tidesight.fleet.containers import Containers, Limits
from tidesight.fleet.lifeline import Lifeline
from tidesight.fleet.processes import Order

__all__ = ["runtime"]
LIMITS = Limits(0.25, 512 * 2**20)


def started(lifeline: Lifeline) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "tidesight.fleet.container_watch",
        str(lifeline.fd),
        "n1",
        "/",
        "podman",
        "run",
        "x",
    ]
    return subprocess.Popen(command, pass_fds=(lifeline.fd,), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda one, _: one.send_signal(signal.SIGTERM), 5),
        (lambda one, _: one.send_signal(KILL), 128 + signal.SIGKILL),
        (lambda _, lifeline: lifeline.close(), 128 + signal.SIGKILL),
    ],
    ids=["stopped", "killed", "controller gone"],
)
def test_its_end_is_the_containers_and_nothing_is_left(
    end: "Callable[[subprocess.Popen[bytes], Lifeline], None]", code: int, runtime: Path
) -> None:
    lifeline = Lifeline()
    one = started(lifeline)
    until(lambda: (runtime / "pid").exists() and (runtime / "pid").read_text() != "")
    time.sleep(0.05)  # for the trap
    end(one, lifeline)
    _, said = one.communicate(timeout=10)
    assert one.returncode == code
    assert asked(runtime)[-1] == "rm -f n1"
    assert said == b"", "it was asked for, and is no riddle"
    with pytest.raises(ProcessLookupError):
        os.kill(int((runtime / "pid").read_text()), 0)
    lifeline.close()


@pytest.mark.parametrize(("oom", "told"), [("true", "out of memory: killed"), ("false", "out of memory, unless")])
def test_a_container_that_is_killed_by_others(oom: str, told: str, runtime: Path) -> None:
    lifeline = Lifeline()
    one = started(lifeline)
    until(lambda: (runtime / "pid").exists() and (runtime / "pid").read_text() != "")
    (runtime / "inspect").write_text(f"{oom}\n")
    os.kill(int((runtime / "pid").read_text()), signal.SIGKILL)
    _, said = one.communicate(timeout=10)
    assert one.returncode == 128 + signal.SIGKILL
    assert told in said.decode()
    assert said.startswith(b"tidesight: ") and said.count(b"\n") == 1
    assert asked(runtime)[-1] == "rm -f n1"
    lifeline.close()


def test_a_lifeline_that_closed_before(runtime: Path) -> None:
    lifeline = Lifeline()
    fd = os.dup(lifeline.fd)
    lifeline.close()
    lifeline.fd = fd
    one = started(lifeline)
    one.communicate(timeout=15)
    assert asked(runtime)[-1] == "rm -f n1"
    os.close(fd)


def test_a_watcher_without_a_runtime(tmp_path: Path) -> None:
    lifeline = Lifeline()
    command = [
        sys.executable,
        "-m",
        "tidesight.fleet.container_watch",
        str(lifeline.fd),
        "n",
        "/",
        str(tmp_path / "none"),
    ]
    done = subprocess.run(command, pass_fds=(lifeline.fd,), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (127, 1)
    assert done.stderr.startswith("tidesight: cannot start ")
    lifeline.close()


def test_what_a_dead_fleet_left_is_removed_first(runtime: Path, tmp_path: Path) -> None:
    (runtime / "ps").write_text("aaa\nbbb\n")
    (runtime / "image").write_text("sha256:1\n")
    asyncio.run(ContainerStart(Containers("podman", "x", tmp_path), LIMITS, [], 0).open())
    assert asked(runtime) == [
        f"ps -aq --filter label=tidesight.fleet={tmp_path}",
        "kill aaa bbb",
        "rm -f aaa bbb",
        "image inspect -f {{.Id}} x",
    ]


def test_why_no_container_can_be_run(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = ContainerStart(Containers("podman", "x:1", tmp_path), LIMITS, [], 0)
    with pytest.raises(Unavailable, match="podman does not work here: no daemon"):
        asyncio.run(starter.open())
    (runtime / "ps").write_text("")
    with pytest.raises(ConfigError, match=r"podman has no image 'x:1'; build it .* or fetch it"):
        asyncio.run(starter.open())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="podman is not installed"):
        asyncio.run(starter.open())


async def _listening(runtime: Path, tmp_path: Path, lifeline: Lifeline) -> ContainerProcess:
    starter = ContainerStart(Containers("podman", "x", tmp_path), LIMITS, ["--port", "0"], lifeline.fd)
    spool = tmp_path / "spool" / "slot-0"
    read_fd, write_fd = os.pipe()
    process = await starter.start(Order([], write_fd, write_fd, {"spool": str(spool)}, "i1"))
    os.close(write_fd)
    said = b""
    while b"listens" not in said:
        said += await asyncio.to_thread(os.read, read_fd, 1000)
    os.close(read_fd)
    command = asked(runtime)[0].split()
    assert command[-4:] == ["--port", "0", "--spool", str(spool)]
    assert value(command, "--volume") == [f"{spool}:{spool}"]
    assert spool.stat().st_uid == (os.geteuid() or 65532)
    return process


@pytest.mark.parametrize(
    ("number", "listens", "code"),
    [(signal.SIGTERM, True, 5), (signal.SIGTERM, False, -9), (signal.SIGKILL, True, -9)],
)
def test_a_container_is_stopped_and_killed(
    number: signal.Signals, listens: bool, code: int, runtime: Path, tmp_path: Path
) -> None:
    async def live() -> int | None:
        lifeline = Lifeline()
        process = await _listening(runtime, tmp_path, lifeline)
        if listens:
            (runtime / "inspect").write_text("1 0123\n")  # whose groups do not have that name
            assert await process.locate() is None
            assert process.pid is None
        process.send(number)
        ended = await asyncio.wait_for(process.wait(), 10)
        lifeline.close()
        return ended

    assert asyncio.run(live()) == code
    assert asked(runtime)[-1].startswith(f"rm -f tidesight-{tmp_path.name}-i1-")


def test_a_container_whose_watcher_is_killed(runtime: Path, tmp_path: Path) -> None:
    async def live() -> int | None:
        lifeline = Lifeline()
        process = await _listening(runtime, tmp_path, lifeline)
        process._watcher.send(signal.SIGKILL)
        code = await asyncio.wait_for(process.wait(), 10)
        lifeline.close()
        return code

    assert asyncio.run(live()) == -9
    kill, rm = asked(runtime)[-2:]
    assert (kill.split()[0], rm.split()[:2]) == ("kill", ["rm", "-f"])
