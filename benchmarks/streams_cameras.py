"""Twelve cameras on a fleet that is too small: shares, ages, memory.

    python -m benchmarks.streams_cameras --url URL [--seconds 60] [--cameras 12] [--fps 5] VIDEO

Prints, for each camera, its part of what was shown against its fair part, the p99 age, and the memory of this process
at the beginning and at the end.
"""

import argparse
import asyncio
import resource
from pathlib import Path
from time import monotonic

from tidesight.streams.cameras.config import Camera, CamerasConfig
from tidesight.streams.cameras.watch import Watch
from tidesight.streams.options import FleetOptions

_SETTLE_S = 10.0


def main() -> None:
    """Watch for a while, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video")
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cameras", type=int, default=12)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--freshness-s", type=float, default=1.0)
    asyncio.run(run(parser.parse_args()))


async def run(wanted: argparse.Namespace) -> None:
    """As told."""
    cameras = tuple(
        Camera(f"camera{number:02}", wanted.video, "file", wanted.fps, wanted.freshness_s)
        for number in range(wanted.cameras)
    )
    watch = Watch(CamerasConfig(cameras), FleetOptions(tuple(wanted.url)), None)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(_SETTLE_S)
    before = {one["name"]: one["shown"] for one in watch.status()["cameras"]}
    began_s, memory = monotonic(), [rss_mib()]
    while monotonic() - began_s < wanted.seconds:
        await asyncio.sleep(wanted.seconds / 6)
        memory.append(rss_mib())
    states = {one["name"]: one for one in watch.status()["cameras"]}
    seconds = monotonic() - began_s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    shown = {name: one["shown"] - before[name] for name, one in states.items()}
    fair = sum(shown.values()) / len(shown)
    print("| camera | FPS | of its fair share | p99 age ms | skipped | late | refused |\n|---|---|---|---|---|---|---|")
    for name, one in states.items():
        part = shown[name] / fair if fair else 0.0
        counts = f"{one['skipped']} | {one['late']} | {one['refused']}"
        print(f"| {name} | {shown[name] / seconds:.2f} | {part:.3f} | {one['age_p99_ms']} | {counts} |")
    print(
        f"\nin all {sum(shown.values()) / seconds:.1f} frames/s of {wanted.cameras * wanted.fps:g} wanted; memory",
        end=" ",
    )
    print(
        ", ".join(f"{one:.0f}" for one in memory),
        f"MiB; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}",
    )


def rss_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
