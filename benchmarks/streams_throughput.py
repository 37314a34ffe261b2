"""Frames a second of `tidesight video` over two one-CPU instances against what the same instances do at saturation.

    python -m benchmarks.streams_throughput VIDEO [--rounds 3] [--frames 400] [--model FILE]

Both send the same JPEGs, those that the video's frames become. At saturation they are made beforehand, and eight
callers for each instance ask again as soon as they are answered. Decoding and encoding are part of the video's run.
Everything shares this machine, so CPU time for each frame is said beside it, on either side.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.client import closed_loop, request_bytes
from tidesight.commands.local_server import LocalServer, local_server
from tidesight.streams.jpeg import FrameEncoder
from tidesight.streams.reading import Picture, VideoReader

_CALLERS = 8
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print each round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--model", default="")
    wanted = parser.parse_args()
    options = ["--workers", "1", "--access-log", "errors", *(["--model", wanted.model] if wanted.model else [])]
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        clip = cut(wanted.video, wanted.frames, Path(folder) / "clip.mkv")
        servers = [stack.enter_context(local_server(*options)) for _ in range(2)]
        requests = [request_bytes(jpeg, "image/jpeg") for jpeg in jpegs(clip, wanted.frames)]
        saturate(servers, requests[:100])
        rounds = []
        for number in range(wanted.rounds):
            limit, video = saturate(servers, requests), detect(servers, clip, Path(folder) / str(number))
            rounds.append(video["rate"] / limit["rate"])
            print(
                f"saturation {limit['rate']:.1f}/s ({limit['server_ms']:.2f} ms of CPU a frame); video "
                f"{video['rate']:.1f}/s (instances {video['server_ms']:.2f} ms, client {video['client_ms']:.2f} ms): "
                f"{rounds[-1]:.3f}",
                flush=True,
            )
    print(f"median {median(rounds):.3f}")


def cut(source: str, frames: int, target: Path) -> Path:
    """The begin of a video, copied packet by packet."""
    import av

    with av.open(source) as opened, av.open(str(target), "w") as output:
        stream = opened.streams.video[0]
        copied = output.add_stream_from_template(stream)
        for number, packet in enumerate(opened.demux(stream)):
            if number >= frames or not packet.size:
                break
            packet.stream = copied
            output.mux(packet)
    return target


def jpegs(source: Path, most: int) -> list[bytes]:
    """What the frames are sent as."""
    encoder = FrameEncoder(416)
    made: list[bytes] = []
    with VideoReader(str(source)) as reader:
        for found in reader.frames():
            if isinstance(found, Picture) and len(made) < most:
                made.append(encoder.encode(found.frame).jpeg)
    return made


def saturate(servers: list[LocalServer], requests: list[bytes]) -> dict[str, float]:
    """All requests, shared out, as fast as they are answered."""
    before = cpu_s(servers)
    halves = [requests[number :: len(servers)] for number in range(len(servers))]
    with ThreadPoolExecutor(len(servers)) as pool:
        outcomes = list(
            pool.map(
                lambda pair: closed_loop(int(pair[0].url.rsplit(":", 1)[1]), pair[1], _CALLERS, len(pair[1])),
                zip(servers, halves, strict=True),
            )
        )
    assert not any(outcome.failures for outcome in outcomes)
    rate = len(requests) / max(outcome.seconds for outcome in outcomes)
    return {"rate": rate, "server_ms": (cpu_s(servers) - before) / len(requests) * 1e3}


def detect(servers: list[LocalServer], clip: Path, out: Path) -> dict[str, float]:
    """The video; its rate from the first frame sent, without the start of the process."""
    before, children = cpu_s(servers), resource.getrusage(resource.RUSAGE_CHILDREN)
    urls = [word for server in servers for word in ("--url", server.url)]
    command = [sys.executable, "-m", "tidesight", "video", str(clip), *urls, "--out", str(out), "--no-video", "--json"]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    after, frames = resource.getrusage(resource.RUSAGE_CHILDREN), done["frames"]
    used_s = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    server_ms = (cpu_s(servers) - before) / frames * 1e3
    return {"rate": frames / done["detecting_s"], "server_ms": server_ms, "client_ms": used_s / frames * 1e3}


def cpu_s(servers: list[LocalServer]) -> float:
    """CPU seconds the instances have used."""
    total = 0.0
    for server in servers:
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


if __name__ == "__main__":
    main()
