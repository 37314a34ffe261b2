"""The options of `tidesight load`, and the scenario that they describe."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from tidesight.errors import ConfigError
from tidesight.settings import assets_folder
from tidesight.workload.scenario import BodyForm, Scenario, parse_scenario, read_scenario

Url = Annotated[str, typer.Argument(help="http or https; its path is /v1/detect if it names none.")]
Rate = Annotated[float | None, typer.Option(help="Requests a second, whatever the answers do (open loop).")]
Arrivals = Annotated[
    str | None, typer.Option(help="poisson, constant, ramp, step, burst or diurnal. (default: poisson)")
]
Peak = Annotated[
    float | None, typer.Option(help="The other rate of ramp, step, burst and diurnal. (default: 10 times the rate)")
]
Period = Annotated[float | None, typer.Option(help="Seconds from burst to burst, or of a day of diurnal.")]
Users = Annotated[int | None, typer.Option(help="Callers who each wait for their answer (closed loop).")]
SpawnRate = Annotated[float, typer.Option(help="Users added a second.")]
ThinkTime = Annotated[float, typer.Option(help="Seconds from an answer to the user's next request.")]
Trace = Annotated[Path | None, typer.Option(help="CSV with the columns t_s,requests to replay (open loop).")]
TimeScale = Annotated[float, typer.Option(help="0.1 replays a trace ten times as fast.")]
RateScale = Annotated[float, typer.Option(help="0.1 replays a trace with a tenth of its requests a second.")]
ScenarioFile = Annotated[Path | None, typer.Option(help="TOML file that says all of this.")]
FindMaxRate = Annotated[
    bool, typer.Option("--find-max-rate", help="Find the highest Poisson rate that meets the objective.")
]
Percentile = Annotated[float, typer.Option(help="Of latency, to meet the objective with --find-max-rate.")]
Duration = Annotated[
    float | None, typer.Option(help="Seconds; of each try with --find-max-rate. (default: 30, or the trace's)")
]
Pictures = Annotated[Path | None, typer.Option(help="Folder of pictures. (default: those of the demo)")]
Body = Annotated[str | None, typer.Option(help="raw, json or multipart. (default: raw)")]
Objective = Annotated[float | None, typer.Option(help="Answers later than this are not good. (default: 0.5)")]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds from when a request was due until its caller leaves. (default: 5)")
]
Seed = Annotated[int | None, typer.Option(help="Of the arrivals. (default: 1)")]
Header = Annotated[list[str] | None, typer.Option(help="'Name: value', sent with each request; repeatable.")]
Connections = Annotated[int, typer.Option(min=1, help="The most at a time.")]
Cacert = Annotated[Path | None, typer.Option(help="Certificates to trust instead of the system's.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Trust any certificate.")]
Driver = Annotated[str, typer.Option(help="tidesight (its own; also by the name aiohttp), locust or jmeter.")]
WritePlan = Annotated[
    Path | None, typer.Option(help="Write what --driver locust or jmeter would run into this folder; run nothing.")
]
Out = Annotated[Path | None, typer.Option(help="Record the run into this folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


_PEAKED = ("ramp", "step", "burst", "diurnal")
_PERIODIC = ("burst", "diurnal")


def read(options: dict[str, Any]) -> Scenario:
    """The scenario that the options describe; of a scenario file, with the options that were given put over it.

    Raises:
        ConfigError: options that contradict each other, or are out of range.
    """
    _check(options)
    seeds = None if options["seed"] is None else (options["seed"],)
    named = {"duration_s": "duration", "objective_s": "objective", "timeout_s": "timeout"}
    given = {name: options[option] for name, option in named.items()} | {"seeds": seeds}
    given = {name: value for name, value in given.items() if value is not None}
    ask = {"pictures": options["pictures"] and str(options["pictures"].absolute()), "body": options["body"]}
    ask = {name: value for name, value in ask.items() if value is not None}
    if options["scenario"] is not None:
        found = read_scenario(options["scenario"], assets_folder())
        return replace(found, **given, ask=replace(found.ask, **ask))
    if options["trace"] is None:
        given.setdefault("duration_s", 30.0)
    return parse_scenario({"name": "load", "load": _load(options), "ask": ask, **given}, Path())


def _check(options: dict[str, Any]) -> None:
    _check_loop(options)
    _check_values(options)


def _check_loop(options: dict[str, Any]) -> None:
    loops = [name for name in ("rate", "users", "trace", "scenario") if options[name] is not None]
    if options["find_max_rate"]:
        if set(loops) - {"rate"} or options["arrivals"]:
            raise ConfigError("--find-max-rate sends Poisson arrivals; only --rate, where to begin, goes with it")
        if options["out"] is not None or options["driver"] not in ("tidesight", "aiohttp"):
            raise ConfigError("--find-max-rate records nothing and uses our own driver: leave out --out and --driver")
    elif len(loops) != 1:
        raise ConfigError("say one of --rate, --users, --trace and --scenario, or --find-max-rate", field="rate")
    if options["arrivals"] and not {"rate", "trace"} & set(loops):
        raise ConfigError("--arrivals goes with --rate or --trace", field="arrivals")


def _check_values(options: dict[str, Any]) -> None:
    arrivals = options["arrivals"]
    if options["trace"] is not None and arrivals not in (None, "poisson", "constant"):
        raise ConfigError("--trace takes --arrivals poisson or constant, within its bins", field="arrivals")
    if options["peak"] is not None and arrivals not in _PEAKED:
        raise ConfigError(f"--peak goes with --arrivals {', '.join(_PEAKED)}", field="peak")
    if options["period"] is not None and arrivals not in _PERIODIC:
        raise ConfigError(f"--period goes with --arrivals {' or '.join(_PERIODIC)}", field="period")
    for name in ("rate", "time_scale", "rate_scale"):
        if options[name] is not None and not 0 < options[name] < float("inf"):
            raise ConfigError(f"--{name.replace('_', '-')}: expected a number above 0, got {options[name]:g}", name)
    if options["body"] not in (None, *get_args(BodyForm)):
        raise ConfigError(f"--body: expected {', '.join(get_args(BodyForm))}; got {options['body']!r}", field="body")


def _load(options: dict[str, Any]) -> dict[str, Any]:
    """The table `load` of a scenario."""
    if options["users"] is not None:
        names = {"users": "users", "spawn_per_s": "spawn_rate", "think_s": "think_time"}
        return {name: options[option] for name, option in names.items()}
    if options["trace"] is not None:
        spacing = "even" if options["arrivals"] == "constant" else "poisson"
        scales = {name: options[name] for name in ("time_scale", "rate_scale")}
        return {"trace": str(options["trace"].absolute()), "spacing": spacing, **scales}
    rate, arrivals = options["rate"] or 10.0, options["arrivals"] or "poisson"
    found = {"arrivals": arrivals, "rate_rps": rate}
    if arrivals in _PEAKED:
        found["peak_rps"] = 10 * rate if options["peak"] is None else options["peak"]
    if options["period"] is not None:
        found["period_s"] = options["period"]
        if arrivals == "burst":
            found["burst_s"] = options["period"] / 10
    return found
