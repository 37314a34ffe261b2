"""Instances of a fleet as real processes: started afresh and forked, held to their class, drained, killed, orphaned."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import httpx
import psutil
import pytest

from tests.conftest import Server
from tests.unit.fleet.enforcing import require_enforced
from tidesight.fleet.instances import Instance, InstanceClass, LaunchPlan, State
from tidesight.fleet.launcher import Launcher

MIB = 2**20
FORKS = 25
ONNX = ("--engine", "onnxruntime")
P = ParamSpec("P")
both = pytest.mark.parametrize("fork", [False, True], ids=["fresh", "forked"])


class Shared:
    """One event loop for all tests here, and in it a launcher that forks: to load a template takes a second."""

    loop = asyncio.Runner()
    launcher: Launcher

    @classmethod
    async def open(cls, folder: Path) -> None:
        cls.launcher = Launcher(LaunchPlan(folder, fork=True, arguments=ONNX))
        await cls.launcher.open()
        assert cls.launcher.template
        await cls.launcher.template.settled()


@pytest.fixture(scope="module", autouse=True)
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with Shared.loop as loop:
        loop.run(Shared.open(tmp_path_factory.mktemp("shared")))
        yield
        loop.run(Shared.launcher.close())


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        Shared.loop.run(asyncio.wait_for(test(*args, **kwargs), 150))

    return run


@asynccontextmanager
async def launcher_of(folder: Path, fork: bool = False, **plan: Any) -> AsyncIterator[Launcher]:
    """An open launcher; where it forks, its template is settled. Without a plan of its own it is the shared one."""
    if fork and not plan:
        try:
            yield Shared.launcher
        finally:
            await asyncio.gather(*(Shared.launcher.stop(one) for one in list(Shared.launcher.instances)))
        return
    plan.setdefault("arguments", ONNX)
    launcher = Launcher(LaunchPlan(folder / "fleet", fork=fork, **plan))
    await launcher.open()
    try:
        if launcher.template:
            await launcher.template.settled()
        yield launcher
    finally:
        await launcher.close()


async def ready(launcher: Launcher) -> Instance:
    instance = launcher.start()
    assert await instance.until(State.READY) is State.READY, f"{instance.reason}\n{instance.log.read_text()}"
    return instance


async def detections(instance: Instance, jpeg: bytes) -> Any:
    async with httpx.AsyncClient(timeout=60) as client:
        headers = {"Content-Type": "image/jpeg", "X-Request-Timeout-Ms": "60000"}
        reply = await client.post(f"{instance.url}/v1/detect", content=jpeg, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["detections"]


async def metrics(instance: Instance) -> dict[str, float]:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{instance.url}/metrics")).text
    return {line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines() if not line.startswith("#")}


async def said(instance: Instance, text: str) -> bool:
    """Whether it comes up in the log, which is written a little behind."""
    limit_s = time.monotonic() + 10
    while text not in instance.log.read_text() and time.monotonic() < limit_s:
        await asyncio.sleep(0.02)
    return text in instance.log.read_text()


def children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True)}


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@both
@asynchronous
async def test_from_the_decision_to_the_end(tmp_path: Path, astronaut_jpeg: bytes, fork: bool) -> None:
    before, fds = children(), open_fds()
    seen: list[State] = []
    launcher = Launcher(LaunchPlan(tmp_path, fork=fork, arguments=ONNX), lambda instance: seen.append(instance.state))
    await launcher.open()
    if launcher.template:
        assert await launcher.template.settled(), launcher.template.reason
    instance = launcher.start()
    assert (instance.state, launcher.instances) == (State.STARTING, [instance])
    assert await instance.until(State.READY) is State.READY
    assert instance.how == ("forked" if fork else "fresh")
    assert any(one["label"] == "person" for one in await detections(instance, astronaut_jpeg))
    assert instance.pid and os.getsid(instance.pid) == instance.pid, "Ctrl-C in a terminal must not reach it"
    assert instance.start_s and 0 < instance.start_s < 60
    usage = instance.usage()
    assert usage and usage.cpu_s > 0 and usage.memory_bytes > MIB

    await launcher.stop(instance, "scaled down")
    assert (instance.state, instance.exit_code, launcher.instances) == (State.STOPPED, 0, [])
    assert instance.reason == "scaled down: ended with 0"
    assert seen == [State.STARTING, State.READY, State.DRAINING, State.STOPPED]
    assert not psutil.pid_exists(instance.pid), "no zombie"
    log = instance.log.read_text()
    assert "listens on http://127.0.0.1:" in log and "SIGTERM: draining" in log
    await launcher.close()
    assert children() == before
    assert open_fds() == fds


@both
@asynchronous
async def test_each_gets_its_class(tmp_path: Path, astronaut_jpeg: bytes, fork: bool) -> None:
    async with launcher_of(tmp_path, fork, instance_class=InstanceClass(0.5, 320 * MIB)) as launcher:
        require_enforced(launcher.cgroups)
        two = await asyncio.gather(ready(launcher), ready(launcher))
        for one in two:
            for entrance in one.group.entrances:
                assert Path(entrance).read_text().split() == [str(one.pid)]
        assert await said(two[0], "of 320 MiB"), "it plans with the memory of its class"
        assert await said(two[0], "1 workers")
        # Twice as much work at once as half a CPU does in the time: the kernel holds it back.
        started_s, before = time.monotonic(), two[0].usage()
        while time.monotonic() < started_s + 1:
            await asyncio.gather(*(detections(two[0], astronaut_jpeg) for _ in range(4)))
        took_s, after = time.monotonic() - started_s, two[0].usage()
        assert before and after
        assert after.cpu_s - before.cpu_s < 0.5 * took_s + 0.15
        assert after.throttled_periods > before.throttled_periods
        assert after.memory_peak_bytes <= 320 * MIB
        groups = [Path(entrance).parent for one in two for entrance in one.group.entrances]
    assert not any(folder.exists() for folder in groups)
    assert two[0].final_usage and two[0].final_usage.cpu_s >= after.cpu_s


@asynchronous
async def test_a_fork_starts_as_many_workers_as_its_own_quota_is_for(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    async with launcher_of(tmp_path, fork=True, instance_class=InstanceClass(2.0)) as launcher:
        require_enforced(launcher.cgroups)
        one = await ready(launcher)
        assert (await metrics(one))["tidesight_workers"] == 2


@asynchronous
async def test_without_cgroups_it_says_so_and_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tidesight.fleet.cgroups import Cgroups

    monkeypatch.setattr("tidesight.fleet.launcher.Cgroups.open", lambda: Cgroups(None, "no permission"))
    async with launcher_of(tmp_path, instance_class=InstanceClass(0.25)) as launcher:
        one = await ready(launcher)
        assert not one.enforced and launcher.cgroups.reason == "no permission"
        assert (await metrics(one))["tidesight_workers"] == 1, "not one for each CPU of the machine"
        usage = one.usage()
        assert usage and usage.cpu_s > 0 and usage.memory_bytes > 20 * MIB


@asynchronous
async def test_too_little_memory_ends_it_and_it_says_why(tmp_path: Path) -> None:
    async with launcher_of(tmp_path, instance_class=InstanceClass(1.0, 64 * MIB)) as launcher:
        require_enforced(launcher.cgroups)
        one = launcher.start()
        assert await one.until(State.READY) is State.CRASHED
        assert one.exit_code == -signal.SIGKILL
        assert one.reason.startswith("out of memory: killed by the kernel at its limit of 64 MiB")


@both
@asynchronous
async def test_forks_answer_as_fresh_processes_do_under_load(
    tmp_path: Path, astronaut_jpeg: bytes, reference: Any, fork: bool
) -> None:
    async with launcher_of(tmp_path, fork) as launcher:
        several = await asyncio.gather(*(ready(launcher) for _ in range(3)))
        answers = await asyncio.gather(*(detections(one, astronaut_jpeg) for one in several for _ in range(10)))
        assert all(answer == reference for answer in answers)
        for one in several:
            counted = await metrics(one)
            assert counted['tidesight_requests_total{status="200"}'] == 10, "each counts its own"


@pytest.fixture(scope="module")
def reference(server: Server, astronaut_jpeg: bytes) -> Any:
    """What a process that was started by nobody's launcher finds, and a detector without any process."""
    from tidesight.detection.detector import Detector

    found = Detector.open(engine="onnxruntime").detect(astronaut_jpeg)
    headers = {"Content-Type": "image/jpeg"}
    expected = httpx.post(f"{server.url}/v1/detect", content=astronaut_jpeg, headers=headers).json()["detections"]
    assert len(found.boxes) == len(expected) > 0
    return expected


@asynchronous
async def test_a_declared_delay_comes_before_the_process(tmp_path: Path) -> None:
    async with launcher_of(tmp_path, delay_s=0.7, arguments=("--engine", "fake", "--model", "fake")) as launcher:
        one = launcher.start()
        await asyncio.sleep(0.3)
        assert (one.pid, one.state) == (None, State.STARTING)
        assert await one.until(State.READY) is State.READY
        assert one.spawned_s and one.spawned_s - one.history[0].at_s >= 0.7
        assert one.start_s and one.start_s > 0.7


@asynchronous
async def test_a_start_that_is_delayed_can_be_taken_back(tmp_path: Path) -> None:
    async with launcher_of(tmp_path, delay_s=100) as launcher:
        one = launcher.start()
        await asyncio.sleep(0)
        await asyncio.wait_for(launcher.stop(one), 5)
        assert (one.state, one.pid) == (State.STOPPED, None)
        assert one.reason == "asked to stop, before it was started"


@both
@asynchronous
async def test_one_that_is_stopped_while_it_starts(tmp_path: Path, fork: bool) -> None:
    async with launcher_of(tmp_path, fork) as launcher:
        for wait_s in (0, 0.001, 0.01, 0.05, 0.2):
            one = launcher.start()
            await asyncio.sleep(wait_s)
            await asyncio.wait_for(launcher.stop(one), 20)
            assert one.state is State.STOPPED
            assert one.pid is None or not psutil.pid_exists(one.pid)


@both
@asynchronous
async def test_one_that_is_killed_has_crashed(tmp_path: Path, fork: bool) -> None:
    async with launcher_of(tmp_path, fork) as launcher:
        one, other = await asyncio.gather(ready(launcher), ready(launcher))
        assert one.pid
        os.kill(one.pid, signal.SIGKILL)
        assert await asyncio.wait_for(one.until(), 10) is State.CRASHED
        assert one.exit_code == -signal.SIGKILL
        assert one.reason.startswith("ended with -9")
        assert launcher.instances == [other] and other.state is State.READY
        assert (await ready(launcher)).slot == one.slot, "its place is free again"


@both
@asynchronous
async def test_one_that_hangs_is_killed_at_the_limit(tmp_path: Path, fork: bool) -> None:
    async with launcher_of(tmp_path, fork, kill_after_s=0.5) as launcher:
        one = await ready(launcher)
        assert one.pid
        os.kill(one.pid, signal.SIGSTOP)
        await asyncio.wait_for(launcher.stop(one), 10)
        assert (one.state, one.exit_code) == (State.STOPPED, -signal.SIGKILL)
        assert one.reason == "asked to stop: killed 0.5 s after SIGTERM"


@asynchronous
async def test_a_request_that_was_accepted_is_answered_before_the_end(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    async with launcher_of(tmp_path, fork=True, lame_duck_s=0.5) as launcher:
        one = await ready(launcher)
        asked = [asyncio.create_task(detections(one, astronaut_jpeg)) for _ in range(5)]
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(launcher.stop(one))
        await asyncio.sleep(0.05)
        late = await detections(one, astronaut_jpeg)  # a lame duck still takes what comes
        assert all(answer == late for answer in await asyncio.gather(*asked))
        await stopping
        assert one.exit_code == 0


@asynchronous
async def test_one_that_does_not_become_ready_in_time(tmp_path: Path) -> None:
    async with launcher_of(tmp_path, start_limit_s=0.05) as launcher:
        one = launcher.start()
        assert await asyncio.wait_for(one.until(State.READY), 20) is State.CRASHED
        assert one.reason.startswith("not ready within 0.05 s")


@both
@asynchronous
async def test_a_model_that_cannot_be_loaded(tmp_path: Path, fork: bool) -> None:
    async with launcher_of(tmp_path, fork, arguments=("--model", str(tmp_path / "none.onnx"))) as launcher:
        if launcher.template:
            assert not launcher.template.ready and "ended with 1" in launcher.template.reason
        one = launcher.start()
        assert await one.until(State.READY) is State.CRASHED
        assert (one.exit_code, one.how) == (1, "fresh")
        assert "ended with 1: tidesight: no model file" in one.reason


@asynchronous
async def test_openvino_is_not_forked(tmp_path: Path) -> None:
    """It keeps threads, which a fork would lose; a fresh process serves instead."""
    pytest.importorskip("openvino")
    async with launcher_of(tmp_path, fork=True, arguments=("--engine", "openvino")) as launcher:
        assert launcher.template
        assert not launcher.template.usable and "threads beside the main one" in launcher.template.reason
        assert (await ready(launcher)).how == "fresh"


@asynchronous
async def test_when_the_template_is_killed_its_forks_go_on(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    async with launcher_of(tmp_path, fork=True, arguments=ONNX) as launcher:  # a template of its own, to be killed
        one = await ready(launcher)
        template = launcher.template
        assert template and template.pid and one.pid
        expected = await detections(one, astronaut_jpeg)
        os.kill(template.pid, signal.SIGKILL)
        while launcher.template and launcher.template.ready:
            await asyncio.sleep(0.01)
        assert await detections(one, astronaut_jpeg) == expected
        assert (await ready(launcher)).how == "fresh", "there is no template to fork from"
        while not template.ready:  # it is started again
            await asyncio.sleep(0.05)
        again = await ready(launcher)
        assert again.how == "forked"
        await launcher.stop(one)
        assert one.state is State.STOPPED and not is_running(one.pid)
        assert await detections(again, astronaut_jpeg) == expected


@both
@asynchronous
async def test_each_has_a_spool_of_its_own(tmp_path: Path, fork: bool) -> None:
    arguments = (*ONNX, "--store", str(tmp_path / "store"), "--store-mode", "async")
    async with launcher_of(tmp_path, fork, arguments=arguments, spool=tmp_path / "spool") as launcher:
        await asyncio.gather(ready(launcher), ready(launcher))
        assert sorted(one.name for one in (tmp_path / "spool").iterdir()) == ["slot-0", "slot-1"]


CONTROLLER = """
import asyncio, json, os, signal, sys
from pathlib import Path
from tidesight.fleet.instances import InstanceClass, LaunchPlan, State
from tidesight.fleet.launcher import Launcher

async def main():
    launcher = Launcher(LaunchPlan(Path(sys.argv[1]), fork=True, arguments=("--engine", "onnxruntime")))
    await launcher.open()
    without = Launcher(LaunchPlan(Path(sys.argv[1], "fresh"), arguments=("--engine", "onnxruntime")))
    await without.open()
    fresh = without.start()
    await launcher.template.settled()
    forked, hung = launcher.start(), launcher.start()
    for one in (fresh, forked, hung):
        await one.until(State.READY)
    os.kill(hung.pid, signal.SIGSTOP)
    groups = [e for one in (fresh, forked, hung) for e in one.group.entrances]
    pids = [launcher.template.pid, fresh.pid, forked.pid, hung.pid]
    print(json.dumps({"pids": pids, "how": [fresh.how, forked.how, hung.how], "groups": groups}), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@asynchronous
async def test_instances_end_with_a_controller_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONTROLLER, str(tmp_path)]
    controller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert controller.stdout
        said = json.loads(await asyncio.to_thread(controller.stdout.readline))
        assert said["how"] == ["fresh", "forked", "forked"]
        assert all(is_running(pid) for pid in said["pids"])
    finally:
        controller.kill()
        controller.communicate()
    limit_s = time.monotonic() + 5
    while (left := [pid for pid in said["pids"] if is_running(pid)]) and time.monotonic() < limit_s:
        await asyncio.sleep(0.01)
    assert left == []
    async with launcher_of(tmp_path, arguments=("--engine", "fake", "--model", "fake")):
        assert not any(Path(group).exists() for group in said["groups"]), "the next fleet removes their groups"


STARTING = """
import asyncio, os, signal, sys
from pathlib import Path
from tidesight.fleet.instances import LaunchPlan
from tidesight.fleet.launcher import Launcher

async def main():
    launcher = Launcher(LaunchPlan(Path(sys.argv[1]), fork=True, arguments=("--engine", "onnxruntime")))
    await launcher.open()
    if sys.argv[2] == "forked":
        await launcher.template.settled()
    asyncio.get_running_loop().call_later(float(sys.argv[3]), os.kill, os.getpid(), signal.SIGKILL)
    for _ in range(2):
        launcher.start()
        await asyncio.sleep(0.005)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["fresh", "forked"])
def test_no_start_outlives_a_controller_that_is_killed_in_the_middle_of_it(tmp_path: Path, how: str) -> None:
    """At moments from the decision to readiness; each controller's processes carry its mark."""
    moments_s = [0, 0.006, 0.02, 0.1]
    folders = [tmp_path / str(number) for number in range(len(moments_s))]
    controllers = [
        subprocess.Popen(
            [sys.executable, "-c", STARTING, str(folder), how, str(moment_s)], env={**os.environ, "MARK": str(folder)}
        )
        for folder, moment_s in zip(folders, moments_s, strict=True)
    ]
    for controller in controllers:
        assert controller.wait(120) == -signal.SIGKILL
    limit_s = time.monotonic() + 20  # a start that had not come to tie itself ends as soon as it does
    while (left := marked(str(tmp_path))) and time.monotonic() < limit_s:
        time.sleep(0.05)
    assert left == []


def marked(text: str) -> list[str]:
    """Running processes whose environment has a mark that begins so."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("MARK", "").startswith(text):
                found.append(" ".join(process.cmdline()))
    return found


def is_running(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)  # which is left to whoever adopts it
    return False


@pytest.mark.slow
@asynchronous
async def test_many_forks(tmp_path: Path, astronaut_jpeg: bytes, reference: Any) -> None:
    """Five at a time while two more serve; every answer is that of a fresh process, and nothing is left."""
    async with launcher_of(tmp_path, fork=True) as launcher:
        busy = [await ready(launcher), await ready(launcher)]
        answered = wrong = 0

        async def load(one: Instance) -> None:
            nonlocal answered, wrong
            while True:
                wrong += await detections(one, astronaut_jpeg) != reference
                answered += 1
                await asyncio.sleep(0.05)  # busy, and not so busy that a start takes seconds

        async def one_after_the_other(forks: int) -> None:
            for _ in range(forks):
                one = await ready(launcher)
                assert one.how == "forked"
                assert await detections(one, astronaut_jpeg) == reference
                await launcher.stop(one)
                assert one.exit_code == 0

        loads = [asyncio.create_task(load(one)) for one in busy]
        fds = open_fds()
        await asyncio.gather(*(one_after_the_other(FORKS // 5) for _ in range(5)))
        assert open_fds() <= fds + 4, "beside the connections of the load"
        for task in loads:
            task.cancel()
        assert (wrong, answered > 0) == (0, True)
