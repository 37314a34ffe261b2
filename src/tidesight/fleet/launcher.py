"""Starting and stopping the instances of a fleet.

    launcher = Launcher(LaunchPlan(folder, InstanceClass(cpu=0.5), fork=True))
    await launcher.open()
    instance = launcher.start()            # returns at once; the rest happens beside
    await instance.until(State.READY)
    await launcher.stop(instance)          # unready, drained, gone
    await launcher.close()

One task lives with each instance, from the decision to the end of its process: it starts it, waits until it is ready,
and notes how it ended. To stop one is to tell it so; the same task sees the end. Nothing here restarts what crashed:
that is for whoever decides how many there are to be.
"""

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from tidesight.errors import TidesightError
from tidesight.fleet.cgroups import Cgroups, Group
from tidesight.fleet.container_start import ContainerStart
from tidesight.fleet.containers import Limits
from tidesight.fleet.instances import ENDED, Instance, LaunchPlan, State, Transition
from tidesight.fleet.lifeline import Lifeline
from tidesight.fleet.processes import CannotStart, FreshStart, Order, Output, Running, Starter
from tidesight.fleet.readiness import until_ready
from tidesight.fleet.template import Template

log = logging.getLogger(__name__)
_WHY = ("tidesight: ", "Error: ", "docker: ")  # as we begin it, as Podman does, and Docker
_TAIL_BYTES = 4096
_TAIL_CHARACTERS = 300


class Launcher:
    """Starts and stops instances; belongs to one event loop, in a thread that lives as long as the fleet.

    Args:
        plan: How.
        on_change: Called after each change of an instance's state, on the event loop.

    Attributes:
        plan: How.
        instances: Those that have not ended, the oldest first.
        cgroups: Whether their classes are enforced, and why not.
        template: What they are forked from, or None.
        lifeline: What they are tied to; for other processes of the fleet too.
    """

    def __init__(self, plan: LaunchPlan, on_change: Callable[[Instance], None] | None = None) -> None:
        self.plan = plan
        self.instances: list[Instance] = []
        self.cgroups = Cgroups(None, "not opened yet")
        self.template: Template | None = None
        self.lifeline = Lifeline()
        self._on_change = on_change
        self._numbers = itertools.count(1)
        self._lives: dict[Instance, _Life] = {}
        self._starters: list[Starter] = []

    async def open(self) -> None:
        """Clear what dead fleets left, find out what is enforced, and begin to load the template."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        if self.plan.containers:
            gets = self.plan.instance_class
            limits = Limits(gets.cpu, gets.memory_bytes)
            container = ContainerStart(self.plan.containers, limits, self._arguments(), self.lifeline.fd)
            await container.open()
            self._starters.append(container)
            return
        self.cgroups = await asyncio.to_thread(Cgroups.open)
        arguments = self._arguments()
        if self.plan.fork:
            self.template = Template(arguments, self.lifeline, self.plan.folder / "template.log")
            self.template.open()
            self._starters.append(self.template)
        self._starters.append(FreshStart(arguments, self.lifeline.fd))

    @property
    def enforced(self) -> bool:
        """Whether instances get the CPU and memory of their class and no more."""
        return self.plan.containers is not None or self.cgroups.enforced

    @property
    def enforcement(self) -> str:
        """By what, or why not, in words that begin with "enforced" or "not enforced"."""
        if self.plan.containers:
            return f"enforced by {self.plan.containers.runtime}"
        return "enforced by the kernel" if self.cgroups.enforced else f"not enforced: {self.cgroups.reason}"

    def start(self, delay_s: float | None = None, avoid: Collection[int] = ()) -> Instance:
        """Decide to start one more instance; it starts beside.

        Args:
            delay_s: Waited before its process is started, in place of the plan's.
            avoid: Places that it is not to take.
        """
        taken = {one.slot for one in self.instances} | set(avoid)
        slot = next(number for number in itertools.count() if number not in taken)
        name = f"i{next(self._numbers)}"
        decided = Transition(State.STARTING, time.monotonic(), "asked for")
        instance = Instance(name, slot, self.plan.folder / f"{name}.log", self.enforced, [decided])
        self.instances.append(instance)
        life = self._lives[instance] = _Life(self, instance, self.plan.delay_s if delay_s is None else delay_s)
        life.task = asyncio.create_task(life.run(), name=name)
        self._tell(instance)
        return instance

    async def stop(self, instance: Instance, reason: str = "asked to stop") -> None:
        """Take an instance's readiness, let it finish, and return when it has ended; killed after `kill_after_s`."""
        if life := self._lives.get(instance):
            life.stop(reason)
        await instance.until()

    async def renew_template(self) -> None:
        """Load what instances are forked from anew; those that run stay. Until it is ready, starts are fresh."""
        if self.template is None:
            return
        old, self.template = (
            self.template,
            Template(self._arguments(), self.lifeline, self.plan.folder / "template.log"),
        )
        self._starters[self._starters.index(old)] = self.template
        await old.close()
        self.template.open()
        await self.template.settled()

    async def close(self) -> None:
        """Stop them all at once, then the template; nothing is left running."""
        await asyncio.gather(*(self.stop(one, "the fleet ends") for one in list(self.instances)))
        if self.template:
            await self.template.close()
        self.lifeline.close()
        await asyncio.to_thread(self.cgroups.close)

    def note(self, instance: Instance, state: State, reason: str) -> None:
        """Enter a state and tell; for the lives of instances alone."""
        instance.enter(state, reason)
        log.log(logging.WARNING if state is State.CRASHED else logging.INFO, "%s: %s: %s", instance.id, state, reason)
        if state in ENDED:
            self.instances.remove(instance)
            del self._lives[instance]
        self._tell(instance)

    async def spawn(self, instance: Instance, output: Output) -> Running:
        """Start its process, in the fastest way that works; for the lives of instances alone.

        Raises:
            CannotStart: in no way.
        """
        settings = {"instance": instance.id}
        if self.plan.spool:
            settings["spool"] = str(self.plan.spool / f"slot-{instance.slot}")
        order = Order(instance.group.entrances, output.stdout_fd, output.stderr_fd, settings, instance.id)
        refusals = []
        for starter in self._starters:
            try:
                process = await starter.start(order)
            except CannotStart as error:
                refusals.append(error.detail)
            else:
                instance.how = starter.name
                return process
        raise CannotStart("; ".join(refusals))

    def _arguments(self) -> list[str]:
        plan = self.plan
        # Without a quota it would start a worker for each CPU of the machine.
        workers = [] if self.enforced else ["--workers", str(max(1, int(plan.instance_class.cpu)))]
        ours = {"host": "127.0.0.1", "port": 0, "lame-duck-s": plan.lame_duck_s, "grace-s": plan.grace_s}
        return [
            *workers,
            *plan.arguments,
            *(word for name, value in ours.items() for word in (f"--{name}", str(value))),
        ]

    def _tell(self, instance: Instance) -> None:
        if self._on_change:
            self._on_change(instance)


class _Life:
    """The life of one instance."""

    def __init__(self, launcher: Launcher, instance: Instance, delay_s: float) -> None:
        self.task: asyncio.Task[None] | None = None
        self._launcher = launcher
        self._instance = instance
        self._delay_s = delay_s
        self._process: Running | None = None
        self._asked: str | None = None
        self._killed: str | None = None
        self._cut = asyncio.Event()  # what it waits for before it has a process is over

    def stop(self, reason: str) -> None:
        """Begin to end it; the first reason counts."""
        if self._asked is None:
            self._asked = reason
            self._launcher.note(self._instance, State.DRAINING, reason)
            self._cut.set()
            if self._process:
                self._end_in_time(self._process)

    def _end_in_time(self, process: Running) -> None:
        process.send(signal.SIGTERM)
        limit_s = self._launcher.plan.kill_after_s
        asyncio.get_running_loop().call_later(limit_s, self._kill, f"killed {limit_s:g} s after SIGTERM")

    def _kill(self, why: str) -> None:
        if self._process and self._instance.state not in ENDED:
            self._killed = why
            self._process.send(signal.SIGKILL)

    async def run(self) -> None:
        """From the decision to the end of its process."""
        instance, launcher, group = self._instance, self._launcher, Group()
        try:
            if self._delay_s > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._cut.wait(), self._delay_s)
            if self._asked is not None:
                launcher.note(instance, State.STOPPED, f"{self._asked}, before it was started")
                return
            gets = launcher.plan.instance_class
            instance.group = group = launcher.cgroups.group(instance.id, gets.cpu, gets.memory_bytes)
            instance.enforced = launcher.enforced
            await self._run_process()
        except (TidesightError, OSError) as error:  # no process, no log file: the fleet goes on without it
            launcher.note(instance, State.CRASHED, f"could not be started: {error}")
        finally:
            launcher.cgroups.remove(group)

    async def _run_process(self) -> None:
        instance, output = self._instance, Output(self._instance.log)
        try:
            instance.spawned_s = time.monotonic()
            self._process = process = await self._launcher.spawn(instance, output)
            instance.pid = process.pid
            output.handed_over()
            if self._asked is not None:  # while it was being started
                self._end_in_time(process)
            becoming_ready = asyncio.create_task(self._become_ready(process, output))
            instance.exit_code = await process.wait()
            becoming_ready.cancel()
            instance.final_usage = instance.group.usage()
        finally:
            output.close()
        self._note_end()

    async def _become_ready(self, process: Running, output: Output) -> None:
        limit_s = self._launcher.plan.start_limit_s
        try:
            async with asyncio.timeout(limit_s):
                self._instance.address = await output.address
                group, _ = await asyncio.gather(process.locate(), until_ready(*self._instance.address))
                self._instance.pid, self._instance.group = process.pid, group or self._instance.group
        except TimeoutError:
            self._kill(f"not ready within {limit_s:g} s")
        else:
            if self._asked is None:
                self._launcher.note(self._instance, State.READY, f"/readyz answers 200, {self._instance.how} start")

    def _note_end(self) -> None:
        instance, code = self._instance, self._instance.exit_code
        how = f"ended with {code}" if code is not None else "ended, its exit code is not known"
        if self._killed:
            how = self._killed
        elif instance.final_usage and instance.final_usage.oom_kills:
            limit_mib = self._launcher.plan.instance_class.memory_bytes / 2**20
            how = f"out of memory: killed by the kernel at its limit of {limit_mib:.0f} MiB"
        if self._asked is not None:
            self._launcher.note(instance, State.STOPPED, f"{self._asked}: {how}")
            return
        said = _last_words(instance.log)
        self._launcher.note(instance, State.CRASHED, f"{how}: {said}" if said else how)


def _last_words(log_file: Path) -> str:
    """Why an instance ended, as it says itself; else the last that it said."""
    try:
        with log_file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip()[:_TAIL_CHARACTERS] for line in reversed(lines) if line.strip()]
    return next((line for line in said if line.startswith(_WHY)), said[0] if said else "")
