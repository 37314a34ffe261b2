"""The life of an instance, without a network: what signals do, and what is told during the start."""

import asyncio
import signal
from collections.abc import Iterator

import httpx
import pytest

from tidesight.results.writer import ResultWriter
from tidesight.serving.app import create_app
from tidesight.serving.instance import Instance, Ready, ServingLimits, State
from tidesight.serving.lifecycle import ServerSettings, _Server
from tidesight.telemetry import Telemetry


def never() -> Ready:
    raise AssertionError("nothing is loaded here")


@pytest.fixture
def instance() -> Iterator[Instance]:
    results = ResultWriter("")
    yield Instance(ServingLimits(), results, Telemetry())
    results.close(0)


def test_the_first_signal_is_the_first_one_in_a_drain_for_lost_workers_too(instance: Instance) -> None:
    server = _Server(instance, never, ServerSettings(lame_duck_s=60))
    instance.drain()  # as when workers were lost that cannot be replaced
    server.handle_exit(signal.SIGTERM, None)
    assert not server.force_exit
    server.handle_exit(signal.SIGTERM, None)
    assert server.force_exit


def test_metrics_are_shown_when_a_drain_began_before_the_model_was_loaded(instance: Instance) -> None:
    instance.drain()
    assert instance.state is State.DRAINING

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(instance))
        async with httpx.AsyncClient(transport=transport, base_url="http://instance") as client:
            return await client.get("/metrics")

    reply = asyncio.run(ask())
    assert reply.status_code == 200
    assert "tidesight_ready 0" in reply.text
