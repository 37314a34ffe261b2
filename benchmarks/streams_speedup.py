"""`tidesight video` over k instances of a quarter of a CPU against one; and while instances are killed at random.

The video is made of photographs, and longer the more instances there are, so that all take about as long. The client,
Envoy and the instances share the machine: of two CPUs, six instances leave half a one to the others.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from benchmarks.cpu import watch
from benchmarks.fleet_whole import Up
from benchmarks.rounds import Results, resumed, turned
from tidesight.experiments.clip import write_clip

CPU = 0.25
COUNTS = (1, 2, 3, 4, 5, 6)
_FPS = 25.0
_KILLED_OF = 3
_KILL_EVERY_S = (1.0, 4.0)


def streams_speedup(
    pictures: Sequence[bytes], engine: str, rounds: int, frames_each: int, earlier: Results
) -> Iterator[Results]:
    """Frames a second by the number of instances, all of them in each round.

    Args:
        pictures: That the video is made of.
        engine: Of the instances.
        rounds: How many.
        frames_each: Frames for each instance.
        earlier: What an unfinished run found.
    """
    settings = {"cpu": CPU, "frames_each": frames_each, "engine": engine}
    found = resumed(earlier, settings)
    with TemporaryDirectory() as folder:
        clips = {
            count: write_clip(Path(folder, f"{count}.mp4"), pictures, _FPS, count * frames_each) for count in COUNTS
        }
        for number in range(len(found), rounds):
            of = {}
            with watch(os.getpid()) as usage:
                for name in turned([str(count) for count in COUNTS], number):
                    out = Path(folder, f"{number}-{name}")
                    with Up(int(name), *_size(engine)) as fleet:
                        enforced = fleet.status()["enforced"].startswith("enforced")
                        done = detect(fleet.url, clips[int(name)], out)
                    per_s = done["frames"] / done["detecting_s"]
                    of[name] = {"per_s": per_s, "failed": done["failed"], "enforced": enforced}
            found.append({"of": of, "others_cpus": usage.others_cpus})
            yield {**settings, "rounds": found}


def streams_killed(pictures: Sequence[bytes], engine: str, runs: int, frames: int) -> Results:
    """A video while instances are killed at random, line by line against a run of one request after the other."""
    found = []
    with TemporaryDirectory() as folder, Up(_KILLED_OF, *_size(engine)) as fleet:
        clip = write_clip(Path(folder, "clip.mp4"), pictures, _FPS, frames)
        detect(fleet.url, clip, Path(folder, "serial"), "--most-in-flight", "1")
        serial = _lines(Path(folder, "serial"))
        for number in range(runs):
            out = Path(folder, str(number))
            with _Killer(fleet, Random(number)) as killer:
                done = detect(fleet.url, clip, out)
            lines = _lines(out)
            same = sum(ours == theirs for ours, theirs in zip(lines, serial, strict=False))
            found.append({"killed": killer.killed, "lines": len(lines), "same": same, "failed": done["failed"]})
    return {"frames": frames, "instances": _KILLED_OF, "runs": found}


def detect(url: str, clip: Path, out: Path, *options: str) -> dict[str, Any]:
    """The video; its summary. What could not be done is in that, too."""
    words = ["video", str(clip), "--url", url, "--out", str(out), "--no-video", "--json", *options]
    done = subprocess.run([sys.executable, "-m", "tidesight", *words], check=False, stdout=subprocess.PIPE, text=True)
    summary: dict[str, Any] = json.loads(done.stdout)
    if "error" in summary:
        raise RuntimeError(summary["error"])
    return summary


class _Killer:
    """While the block runs, kills an instance that is ready every now and then, whatever it is doing."""

    def __init__(self, fleet: Up, random: Random) -> None:
        self._fleet, self._random = fleet, random
        self._over = Event()
        self._thread = Thread(target=self._kill)
        self.killed = 0

    def __enter__(self) -> "_Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._over.wait(self._random.uniform(*_KILL_EVERY_S)):
            ready = [one["pid"] for one in self._fleet.status()["instances"] if one["state"] == "ready"]
            if ready:
                with suppress(ProcessLookupError):
                    os.kill(self._random.choice(ready), signal.SIGKILL)
                    self.killed += 1


def _size(engine: str) -> tuple[str, ...]:
    return ("--cpu", f"{CPU:g}", "--memory", "256Mi", "--engine", engine)


def _lines(out: Path) -> list[str]:
    (file,) = out.glob("*/detections.jsonl")
    return file.read_text().splitlines()
