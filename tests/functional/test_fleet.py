"""A whole fleet in this process: real instances, a real Envoy, the platforms' own rules; and what befalls it."""

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.functional.backends import Caller, Load, ask, in_loop, until
from tidesight.commands.fleet_plan import Wishes, fleet_plan
from tidesight.detection.annotate import encode_jpeg
from tidesight.errors import ConfigError
from tidesight.fleet import controller as controlling
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.fleet import Fleet
from tidesight.fleet.instances import Instance, State
from tidesight.fleet.state import FleetFolder

pytest.importorskip("envoy")

FAKE = ("--engine", "fake", "--model", "fake-10ms", "--workers", "1")
QUICK_ZERO = ("stable_window_s=6", "idle_retention_s=1", "tick_s=0.5")
START_LIMIT_S = 30.0


@asynccontextmanager
async def running(
    folder: Path, platform: str, least: int, most: int, *, sets: Sequence[str] = (), serve: Sequence[str] = FAKE
) -> AsyncIterator[tuple[Fleet, Endpoint]]:
    """A fleet that runs, of small instances, and where it listens."""
    wishes = Wishes(platform, sets, least=least, most=most, cpu="0.5", memory="256Mi", port=0, serve=serve)
    held = FleetFolder.take(folder)
    fleet = Fleet(fleet_plan(wishes, folder), held)
    await fleet.open()
    loop = asyncio.create_task(fleet.run())
    try:
        yield fleet, fleet.envoy.address
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await fleet.close(drain_s=1)
        held.leave()


async def serving(fleet: Fleet, count: int) -> list[Instance]:
    """Wait until so many instances get requests from Envoy."""
    async with asyncio.timeout(START_LIMIT_S):
        while True:
            hosts = await fleet.envoy.hosts()
            if len(fleet.controller.ready()) == count == sum(one.well for one in hosts.values()):
                return fleet.controller.staying()
            await asyncio.sleep(0.02)


def picture() -> bytes:
    """A small JPEG."""
    import numpy as np

    return encode_jpeg(np.full((48, 64, 3), 114, np.uint8))


async def asked_at_once(to: Endpoint, count: int) -> Counter[int]:
    """So many requests, each on a connection of its own; the answers by status."""
    answers = await asyncio.gather(*(ask(to, body=picture(), content_type="image/jpeg") for _ in range(count)))
    return Counter(answer.status for answer in answers)


@in_loop
async def test_a_killed_instance_loses_what_was_inside_it_and_is_replaced_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "gke", 2, 4) as (fleet, to):
        first, _ = await serving(fleet, 2)
        assert first.pid is not None
        load = Load()
        async with load.on(to, callers=4, body=picture()):
            await asyncio.sleep(0.5)
            killed_s = time.monotonic()
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: first.state is State.CRASHED)
            await until(lambda: len(fleet.controller.ready()) == 2)
            new = fleet.controller.staying()[-1]
            assert new.history[-1].at_s - killed_s < 3 + (new.start_s or 0)  # and not after a pause
            await asyncio.sleep(0.3)
        assert load.failed <= 4  # it had at most what four callers can have asked
        assert load.seen[200] > 50


@in_loop
async def test_scaling_down_and_up_under_load_fails_no_request(tmp_path: Path) -> None:
    async with running(tmp_path, "gke", 1, 4, sets=["lame_duck_s=0"]) as (fleet, to):
        await serving(fleet, 1)
        load = Load()
        async with load.on(to, callers=6, body=picture()):
            for count in (4, 1, 3, 2):
                fleet.scale(count)
                await serving(fleet, count)
                enough = load.seen[200] + 25
                await until(lambda enough=enough: load.seen[200] >= enough)  # type: ignore[misc]
        assert load.failed == 0, load.why
        assert fleet.controller.pinned == 2


@in_loop
async def test_every_instance_is_replaced_under_load_and_no_request_fails(tmp_path: Path) -> None:
    async with running(tmp_path, "gke", 2, 4, sets=["lame_duck_s=0"]) as (fleet, to):
        before = await serving(fleet, 2)
        load = Load()
        async with load.on(to, callers=6, body=picture()):
            assert await fleet.controller.replace_all() == 2
            after = await serving(fleet, 2)
        assert not set(before) & set(after)
        assert load.failed == 0, load.why
        assert load.seen[200] > 50


@in_loop
async def test_from_zero_to_one_with_two_hundred_requests_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "cloud-run", 0, 2) as (fleet, to):
        assert not fleet.launcher.instances
        assert await asked_at_once(to, 200) == {200: 200}  # held for ten seconds and more: each has its turn
        assert fleet.activator.report().refused == {}
        again = await ask(to, body=picture(), content_type="image/jpeg")
        assert again.headers["x-tidesight-instance"] in ("i1", "i2")


@in_loop
async def test_what_the_platform_does_not_hold_it_refuses(tmp_path: Path) -> None:
    async with running(tmp_path, "cloud-run", 0, 1, sets=["queue_most=50"]) as (fleet, to):
        answers = await asked_at_once(to, 200)
        assert set(answers) == {200, 429}
        assert answers[429] == fleet.activator.report().refused["full"] >= 100


@in_loop
async def test_the_last_instance_goes_while_requests_come(tmp_path: Path) -> None:
    async with running(tmp_path, "cloud-run", 0, 2, sets=QUICK_ZERO) as (fleet, to):
        assert (await asked_at_once(to, 1))[200] == 1
        answers: Counter[int] = Counter()
        for _ in range(4):
            await serving_or_held(fleet)
            fleet.scale(0)
            going = asyncio.create_task(asked_at_once(to, 20))
            await asyncio.sleep(0.02)
            fleet.scale(None)
            answers += await going
        assert answers == {200: 80}
        await until(lambda: not fleet.launcher.instances)  # and to zero, by the rule


async def serving_or_held(fleet: Fleet) -> None:
    """Wait until an instance is ready, without asking for one."""
    await until(lambda: fleet.controller.ready() or not fleet.launcher.instances)


@in_loop
async def test_envoy_is_killed_and_comes_back_with_the_instances_it_had(tmp_path: Path) -> None:
    async with running(tmp_path, "gke", 2, 2) as (fleet, to):
        before = await serving(fleet, 2)
        assert fleet.envoy.pid is not None
        os.kill(fleet.envoy.pid, signal.SIGKILL)
        await until(lambda: fleet.envoy.restarts == 1)
        async with asyncio.timeout(10):
            while True:
                try:
                    if (await asked_at_once(to, 4))[200] == 4:
                        break
                except OSError:
                    await asyncio.sleep(0.05)
        assert await serving(fleet, 2) == before


@in_loop
async def test_an_instance_that_hangs_is_left_out_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlling, "_HUNG_AFTER", 2)
    async with running(tmp_path, "gke", 2, 2, sets=["grace_s=1"]) as (fleet, to):
        hung, well = await serving(fleet, 2)
        assert hung.pid is not None
        os.kill(hung.pid, signal.SIGSTOP)
        await until(lambda: hung.state is State.DRAINING)
        await until(lambda: len(fleet.controller.ready()) == 2)
        assert well in fleet.controller.staying()
        assert (await asked_at_once(to, 8))[200] == 8
        await until(lambda: hung.state is State.STOPPED)  # it takes no notice of SIGTERM: killed
        assert hung.reason.startswith("it hangs: killed")


@in_loop
async def test_a_model_that_cannot_start_is_tried_again_later_and_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    serve = ("--engine", "onnxruntime", "--model", str(broken))
    async with running(tmp_path / "fleet", "gke", 2, 2, serve=serve) as (fleet, to):
        await until(lambda: len(fleet.controller.back_off.waiting(time.monotonic())) == 2, limit_s=40)
        await until(lambda: fleet.snapshot().back_offs)
        tried = fleet.launcher.start().id  # the next number tells how many there were
        assert int(tried[1:]) == 5  # two, two more at once, and none since
        told = fleet.snapshot().back_offs[0]
        assert told.crashes == 2
        assert 0 < told.retry_in_s <= 10
        assert "broken.onnx" in told.why
        answer = await ask(to, body=picture())
        assert answer.status == 503  # GKE's answer without an instance


@in_loop
async def test_a_port_or_a_name_that_is_taken_is_said_and_leaves_nothing_running(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wishes = Wishes("gke", least=1, most=1, cpu="0.5", memory="256Mi", port=taken.getsockname()[1], serve=FAKE)
        held = FleetFolder.take(tmp_path)
        fleet = Fleet(fleet_plan(wishes, tmp_path), held)
        with pytest.raises(ConfigError, match="cannot listen on"):
            await fleet.open()
        assert not fleet.launcher.instances
        with pytest.raises(ConfigError, match="another --name"):
            FleetFolder.take(tmp_path)
        held.leave()
        FleetFolder.take(tmp_path).leave()


@in_loop
async def test_app_engine_answers_500_when_the_queue_was_too_long(tmp_path: Path) -> None:
    async with running(tmp_path, "app-engine", 0, 1, sets=["queue_s=1", "f1_mib=256"]) as (fleet, to):
        fleet.scale(0)
        answers = await asked_at_once(to, 3)
        assert answers == {500: 3}
        fleet.scale(None)
        assert (await asked_at_once(to, 30))[200] == 30
        assert fleet.snapshot().front.path == "activator"


@in_loop
async def test_callers_keep_their_connection_when_the_path_changes(tmp_path: Path) -> None:
    """From the activator to the instances, at the load balancer, unseen."""
    async with running(tmp_path, "gke", 1, 2) as (fleet, to):
        await serving(fleet, 1)
        caller = Caller(to)
        assert (await caller.ask(body=picture(), content_type="image/jpeg")).status == 200
        fleet.controller.parts.routing.by_activator = True
        await fleet.controller.parts.routing.publish(fleet.controller.ready)
        assert fleet.controller.parts.routing.activator_since_s is not None
        assert (await caller.ask(body=picture(), content_type="image/jpeg")).status == 200
        assert fleet.activator.report().answered == 1
        caller.leave()
