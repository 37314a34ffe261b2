"""A load generator thin enough to share two cores with what it measures: raw sockets, bodies made beforehand."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import uvloop


@dataclass
class Outcome:
    """What came back.

    Attributes:
        latencies_s: Of each good answer, from when it was due.
        failures: Answers other than 200.
        statuses: How many answers of each status.
        seconds: From the first request to the last answer.
        send_lag_s: How late each request was sent.
    """

    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    send_lag_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return len(self.latencies_s) / self.seconds


def request_bytes(body: bytes, content_type: str, query: str = "", accept: str = "*/*") -> bytes:
    """A whole HTTP/1.1 request to /v1/detect."""
    head = f"POST /v1/detect{query} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nAccept: {accept}\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def closed_loop(port: int, requests: Sequence[bytes], connections: int, count: int) -> Outcome:
    """`connections` callers, each of which asks again as soon as it is answered; `count` answers in all."""
    return uvloop.run(_closed_loop(port, requests, connections, count))


def open_loop(port: int, requests: Sequence[bytes], rate_rps: float, count: int) -> Outcome:
    """One request every 1/rate seconds, whatever the answers do; latency counts from when each was due."""
    return uvloop.run(_open_loop(port, requests, rate_rps, count))


async def _closed_loop(port: int, requests: Sequence[bytes], connections: int, count: int) -> Outcome:
    outcome = Outcome()
    numbers = iter(range(count))
    started = perf_counter()

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for number in numbers:
            due = perf_counter()
            await _ask(reader, writer, requests[number % len(requests)], due, outcome)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(connections)))
    outcome.seconds = perf_counter() - started
    return outcome


async def _open_loop(port: int, requests: Sequence[bytes], rate_rps: float, count: int) -> Outcome:
    outcome = Outcome()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    started = perf_counter()

    async def one(number: int, due: float) -> None:
        stream = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        outcome.send_lag_s.append(perf_counter() - due)
        await _ask(*stream, requests[number % len(requests)], due, outcome)
        idle.append(stream)

    tasks = []
    for number in range(count):
        due = started + number / rate_rps
        await asyncio.sleep(due - perf_counter())
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    outcome.seconds = perf_counter() - started
    return outcome


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, due: float, outcome: Outcome
) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    status = head[9:12].decode()
    outcome.statuses[status] += 1
    if status == "200":
        outcome.latencies_s.append(perf_counter() - due)
    else:
        outcome.failures += 1
