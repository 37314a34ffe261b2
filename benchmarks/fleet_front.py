"""What stands before a fleet costs: Envoy, the activator, and both, beside an instance asked directly.

The instance answers at once and does no work, so that only the way to it is measured; every body is a photograph.
Front and instance are processes of their own, and the front's event loop is that of a fleet's controller.

`python -m benchmarks.fleet_front PORT` is the front before the instance on that port, `... instance` is the instance:
each prints its ports and ends with its standard input.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import cast

import httptools
import uvloop

from benchmarks.client import closed_loop, request_bytes
from benchmarks.cpu import watch
from benchmarks.instance import Figures
from benchmarks.rounds import resumed, turned
from tidesight.fleet.activator import Activator
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.envoy import Envoy
from tidesight.fleet.front import FrontSettings
from tidesight.fleet.holding import HoldRules

DIRECT, ENVOY, ACTIVATOR, BOTH = "directly", "Envoy", "activator", "Envoy and activator"
MANY = 16  # callers at a time, for the throughput
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 600\r\n\r\n" + b" " * 600


def fleet_front(pictures: Sequence[bytes], rounds: int, count: int, earlier: Figures) -> Iterator[Figures]:
    """One caller's latency, and the throughput of many, on each way."""
    requests = [request_bytes(picture, "image/jpeg") for picture in pictures]
    settings = {"requests_per_round": count, "callers": MANY}
    found = resumed(earlier, settings)
    with ExitStack() as stack:
        direct = stack.enter_context(_process("instance"))
        ports = {DIRECT: direct["port"], **stack.enter_context(_process(str(direct["port"])))}
        for port in ports.values():
            closed_loop(port, requests, MANY, 10 * MANY)
        for number in range(len(found), rounds):
            of = {name: _take(ports[name], requests, count) for name in turned([*ports], number)}
            found.append({"of": of, "others_cpus": max(one["others_cpus"] for one in of.values())})
            yield {**settings, "rounds": found}


def _take(port: int, requests: Sequence[bytes], count: int) -> Figures:
    with watch(os.getpid()) as usage:
        one, many = closed_loop(port, requests, 1, count), closed_loop(port, requests, MANY, 4 * count)
    ordered = sorted(one.latencies_s)
    return {
        "p50_ms": median(ordered) * 1e3,
        "p99_ms": ordered[int(0.99 * (len(ordered) - 1))] * 1e3,
        "per_s": many.per_second,
        "failures": one.failures + many.failures,
        "others_cpus": usage.others_cpus,
    }


@contextmanager
def _process(argument: str) -> Iterator[dict[str, int]]:
    command = [sys.executable, "-m", "benchmarks.fleet_front", argument]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        yield json.loads(process.stdout.readline())
        process.stdin.close()


class _Instance(asyncio.Protocol):
    """Reads a request and answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(_ANSWER)


async def _be_an_instance() -> None:
    server = await asyncio.get_running_loop().create_server(_Instance, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def _be_the_front(port: int) -> None:
    instance = Endpoint("127.0.0.1", port)
    activator = Activator(HoldRules())
    activator.set_instances([instance])
    holds = await activator.start()
    with tempfile.TemporaryDirectory() as folder:
        envoys = {
            ENVOY: Envoy(FrontSettings(port=0), Path(folder, "a")),
            BOTH: Envoy(FrontSettings(port=0), Path(folder, "b"), holds),
        }
        ports = {name: (await envoy.start()).port for name, envoy in envoys.items()}
        assert await envoys[ENVOY].set_endpoints([instance])
        while not (await envoys[ENVOY].stats()).instances_well:
            await asyncio.sleep(0.05)
        print(json.dumps({**ports, ACTIVATOR: holds.port}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for envoy in envoys.values():
            await envoy.stop(0)
    await activator.stop(0)


if __name__ == "__main__":
    if sys.argv[1] == "instance":
        uvloop.run(_be_an_instance())
    else:
        asyncio.run(_be_the_front(int(sys.argv[1])))
