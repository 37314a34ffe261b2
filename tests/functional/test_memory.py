"""An instance under a hard memory limit: whatever callers send and do not take, the kernel has no cause to end it."""

import io
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Server, start_server

LIMIT_BYTES = 320 * 2**20
MAX_BODY_BYTES = 8 * 2**20
JOIN = 'echo $$ > "$0" && exec "$@"'  # a shell enters the group and becomes the server


@dataclass(frozen=True)
class Group:
    """A memory cgroup with a hard limit."""

    folder: Path

    @property
    def wrapper(self) -> list[str]:
        return ["sh", "-c", JOIN, str(self.folder / "cgroup.procs")]


@pytest.fixture
def group() -> Iterator[Group]:
    """Version 1 or 2, whichever this machine lets us make; else there is no way to say what the kernel would do."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = Path(root) / f"tidesight-test-{os.getpid()}"
        if not (Path(root) / "cgroup.procs").exists():
            continue
        with suppress(OSError):
            folder.mkdir()
            if (folder / limit).exists():
                (folder / limit).write_text(str(LIMIT_BYTES))
                yield Group(folder)
                removed(folder)
                return
            folder.rmdir()
    pytest.skip("needs a memory cgroup that we may make")


def removed(folder: Path) -> None:
    for _ in range(100):  # the kernel lets go of an ended process a little later
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
    folder.rmdir()


@pytest.fixture
def server(tmp_path: Path, group: Group) -> Iterator[Server]:
    flags = ["--engine", "onnxruntime", "--workers", "1", "--max-body-bytes", str(MAX_BODY_BYTES)]
    running = start_server(tmp_path, *flags, wrapper=group.wrapper)
    yield running
    assert running.process.poll() is None, "it was killed"
    assert httpx.get(f"{running.url}/readyz").status_code == 200
    assert running.stop() == 0


def largest_picture(server: Server) -> tuple[int, int]:
    """Sides of the largest picture it takes: a little below what it says it planned with."""
    planned = re.search(r"picture of ([0-9.]+) megapixels", server.log.read_text())
    assert planned
    pixels = float(planned[1]) * 1e6 * 0.98
    width = int((pixels * 4 / 3) ** 0.5)
    return width, int(pixels / width)


def dearest(width: int, height: int) -> bytes:
    """A progressive CMYK JPEG on its side: coefficients of four planes at once, and pixels that have to be turned."""
    small = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    picture = Image.fromarray(small).resize((width, height)).convert("CMYK")
    exif = Image.Exif()
    exif[0x112] = 6
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=60, progressive=True, subsampling=0, exif=exif)
    return stream.getvalue()


def noise(width: int, height: int) -> bytes:
    """A small file whose drawn picture is large: black and white noise."""
    dots = np.random.default_rng(0).integers(0, 2, (height, width), np.uint8) * 255
    stream = io.BytesIO()
    Image.fromarray(dots).convert("1").save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@pytest.mark.slow
def test_the_largest_pictures_and_bodies_from_many_callers_at_once(server: Server) -> None:
    size = largest_picture(server)
    pictures = [("image/jpeg", dearest(*size)), ("image/png", noise(*size))]
    pictures = [(kind, (data + bytes(MAX_BODY_BYTES))[: MAX_BODY_BYTES - 1000]) for kind, data in pictures]
    stop_s = time.monotonic() + 6
    statuses: Counter[int] = Counter()

    def ask(first: int) -> None:
        turn = first
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while time.monotonic() < stop_s:
                kind, data = pictures[turn % 2]
                accept = "image/jpeg" if turn % 3 else "application/json"
                headers = {"Content-Type": kind, "Accept": accept, "X-Request-Timeout-Ms": "30000"}
                with suppress(httpx.TransportError):
                    reply = client.post("/v1/detect", params={"annotate": "true"}, content=data, headers=headers)
                    statuses[reply.status_code] += 1
                turn += 1

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert statuses[200] > 4
    assert statuses.keys() <= {200, 429}


@pytest.mark.slow
def test_answers_that_nobody_takes(server: Server) -> None:
    """More drawn pictures than the memory could hold are asked for and left in the server's hands."""
    body = noise(*largest_picture(server))
    head = (
        "POST /v1/detect?annotate=true HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: 60000\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    refused = 0
    with ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(60)
            connection.connect(server.address)
            connection.sendall(head.encode() + body)
            refused += connection.recv(12) == b"HTTP/1.1 429"
        assert refused > 0, "as many as fit are held, and no more"
    stored = httpx.get(f"{server.url}/metrics").text
    assert f'tidesight_refused_total{{reason="memory"}} {float(refused)}' in stored

    headers = {"Content-Type": "image/png", "X-Request-Timeout-Ms": "30000"}
    reply = httpx.post(f"{server.url}/v1/detect?annotate=true", content=body, headers=headers, timeout=60)
    assert reply.status_code == 200, "those that left gave back what was held for them"
