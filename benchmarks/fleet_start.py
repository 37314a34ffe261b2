"""How long an instance of a fleet takes from the decision to start it to its first good answer.

Forked from a loaded template, and as a fresh process, in each class; the kernel holds it to its CPU where it can be
had, and `enforced` says whether it was.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from benchmarks.client import request_bytes
from benchmarks.cpu import watch
from benchmarks.instance import Figures
from benchmarks.rounds import resumed, turned
from tidesight.fleet.instances import Instance, InstanceClass, LaunchPlan, State
from tidesight.fleet.launcher import Launcher

CPUS = (1.0, 0.25)
FORKED, FRESH = "forked", "fresh"


def name_of(how: str, cpus: float) -> str:
    """Such as "forked, 0.25 CPU"."""
    return f"{how}, {cpus:g} CPU"


def fleet_start(picture: bytes, engine: str, rounds: int, earlier: Figures) -> Iterator[Figures]:
    """Seconds to readiness and to the first good answer, a start of each kind in every round."""
    settings = {"engine": engine}
    found = resumed(earlier, settings)
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        launchers = runner.run(_open(Path(folder), engine))
        for number in range(len(found), rounds):
            of = {name: runner.run(_start(launchers[name], picture)) for name in turned([*launchers], number)}
            found.append({"of": of, "others_cpus": max(one["others_cpus"] for one in of.values())})
            yield {**settings, "rounds": found}
        for launcher in launchers.values():
            runner.run(launcher.close())


async def _open(folder: Path, engine: str) -> dict[str, Launcher]:
    launchers = {}
    for how in (FORKED, FRESH):
        for cpus in CPUS:
            name, gets = name_of(how, cpus), InstanceClass(cpus)
            plan = LaunchPlan(folder / name, gets, ("--engine", engine), fork=how == FORKED)
            launcher = launchers[name] = Launcher(plan)
            await launcher.open()
            if launcher.template:
                assert await launcher.template.settled(), launcher.template.reason
    return launchers


async def _start(launcher: Launcher, picture: bytes) -> Figures:
    with watch(os.getpid()) as usage:
        decided_s = monotonic()
        instance = launcher.start()
        assert await instance.until(State.READY) is State.READY, instance.reason
        ready_s = monotonic() - decided_s
        await _ask(instance, request_bytes(picture, "image/jpeg"))
        answered_s = monotonic() - decided_s
        await launcher.stop(instance)
    return {
        "ready_s": ready_s,
        "first_answer_s": answered_s,
        "how": instance.how,
        "enforced": instance.enforced,
        "others_cpus": usage.others_cpus,
    }


async def _ask(instance: Instance, request: bytes) -> None:
    assert instance.address
    reader, writer = await asyncio.open_connection(*instance.address)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200"), head
