"""A scenario: who asks what and when, and what it is meant to show; a TOML file as a value."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from tidesight.errors import ConfigError, DataError
from tidesight.workload.arrivals import Burst, Constant, Diurnal, Pattern, Poisson, Ramp, Step
from tidesight.workload.cameras import Cameras
from tidesight.workload.trace import Replay, read_trace
from tidesight.workload.variants import InstanceSize, Setting, Variant

BodyForm = Literal["raw", "json", "multipart"]
ARRIVALS: dict[str, type[Any]] = {
    "constant": Constant, "poisson": Poisson, "ramp": Ramp, "step": Step, "burst": Burst, "diurnal": Diurnal,
}  # fmt: skip
"""Patterns of an open loop by their names in files and on the command line; "trace", "users", "cameras" come beside."""
_ASSETS = "assets:"
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Users:
    """A closed loop: callers who each wait for their answer, think, and ask again.

    Attributes:
        users: How many there are in the end.
        spawn_per_s: How many are added a second.
        think_s: From an answer to the next request of the same user.

    Raises:
        ConfigError: a figure out of range.
    """

    users: int
    spawn_per_s: float = 100.0
    think_s: float = 0.0

    def __post_init__(self) -> None:
        if self.users < 1:
            raise ConfigError(f"users: expected at least 1, got {self.users}", field="users")
        if not 0 < self.spawn_per_s < float("inf"):
            raise ConfigError(f"spawn rate: expected users a second above 0, got {self.spawn_per_s:g}", "spawn_per_s")
        if not 0 <= self.think_s < float("inf"):
            raise ConfigError(f"think time: expected at least 0 s, got {self.think_s:g}", field="think_s")


@dataclass(frozen=True)
class Ask:
    """What each request is.

    Attributes:
        pictures: Folder of pictures, relative to the scenario's file; None is the demo's.
        body: "raw" (the picture's bytes), "json" (base64 in JSON) or "multipart".
        path: Of the URL, where that names none.
        headers: Sent with each.
    """

    pictures: str | None = None
    body: BodyForm = "raw"
    path: str = "/v1/detect"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """One experiment's load.

    Attributes:
        name: Short, of letters, digits and dashes.
        load: An open loop's `Pattern`, the `Users` of a closed one, or `Cameras`.
        duration_s: How long requests are sent.
        shows: What it is meant to show, in a sentence or two.
        ask: What each request is.
        objective_s: An answer later than this is not good.
        timeout_s: A caller gives up this long after its request was due.
        seeds: Of the arrivals, one for each repeat.
        platforms: Those it is meant for, by name; empty is any.
        platform: Numbers of platforms by platform and key, as `tidesight up --set` takes them.
        instance: What each instance gets here; None is the platform's own class.
        variants: What is compared within a platform, such as cold and warm; empty is the platform as it is.
        delays: Whether starts also take what the platform adds to them (declared times, not measured ones).
        fork: Whether instances may be forked from a template; without, each is a process from nothing, as a container
            is, and its memory is all its own.
        tail_s: How long the fleet is watched after the last answer.
        note: How it was scaled from what it reproduces, and what else a reader must know.

    Raises:
        ConfigError: a figure out of range.
    """

    name: str
    load: Pattern | Users | Cameras
    duration_s: float
    shows: str = ""
    ask: Ask = Ask()
    objective_s: float = 0.5
    timeout_s: float = 5.0
    seeds: tuple[int, ...] = (1, 2, 3)
    platforms: tuple[str, ...] = ()
    platform: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    instance: InstanceSize | None = None
    variants: tuple[Variant, ...] = ()
    delays: bool = False
    fork: bool = True
    tail_s: float = 2.0
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("duration_s", "objective_s", "timeout_s"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ConfigError(f"{name}: expected seconds above 0, got {value:g}", field=name)
        if not 0 <= self.tail_s < float("inf"):
            raise ConfigError(f"tail_s: expected at least 0 s, got {self.tail_s:g}", field="tail_s")
        if not self.seeds:
            raise ConfigError("seeds: expected at least one", field="seeds")
        if isinstance(self.load, Cameras):
            list(self.load.changes(self.duration_s, 1))  # cameras that cannot come and go are an error here
        elif not isinstance(self.load, Users):
            self.load.curve(self.duration_s)  # a pattern that cannot be drawn is an error here

    def requests(self) -> Pattern | Users:
        """The load, where it is requests.

        Raises:
            ConfigError: it is cameras.
        """
        if isinstance(self.load, Cameras):
            raise ConfigError(f"{self.name} is a scenario of cameras; tidesight bench runs it", field="scenario")
        return self.load

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, for a run's facts; a trace by its length."""
        if isinstance(self.load, Replay):
            load = {"trace_s": self.load.trace.duration_s, "mean_rps": self.load.trace.mean_rps}
            load |= {name: getattr(self.load, name) for name in ("time_scale", "rate_scale", "spacing")}
            return {**_plain(self), "load": {"arrivals": "trace", **load}}
        names = {kind: name for name, kind in ARRIVALS.items()}
        kind = {} if isinstance(self.load, Users | Cameras) else {"arrivals": names.get(type(self.load), "own")}
        load = asdict(self.load) if is_dataclass(self.load) else {}
        return {**_plain(self), "load": {**kind, **load}}


def _plain(scenario: Scenario) -> dict[str, Any]:
    whole = {one.name: getattr(scenario, one.name) for one in fields(scenario) if one.name != "load"}
    whole["variants"] = [asdict(one) for one in scenario.variants]
    whole["instance"] = scenario.instance and asdict(scenario.instance)
    return {**whole, "ask": {**asdict(scenario.ask), "headers": sorted(scenario.ask.headers)}}  # values may be secret


def read_scenario(file: Path, assets: Path | None = None) -> Scenario:
    """Read a scenario from a TOML file.

    Args:
        file: It.
        assets: Folder of optional assets, which a path that begins with "assets:" counts from.

    Raises:
        ConfigError: the file cannot be read, or what it says is not a scenario; says where.
    """
    try:
        return parse_scenario(tomllib.loads(file.read_text()), file.parent, assets)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", field="scenario") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML: {error}", field="scenario") from None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.detail}", error.field) from None


def parse_scenario(values: Mapping[str, Any], folder: Path, assets: Path | None = None) -> Scenario:
    """A scenario from the values of its TOML.

    Args:
        values: With a table `load`: `arrivals` and the fields of that pattern, or `trace`, `users` or `cameras`.
        folder: Of the file, from which its paths count.
        assets: As of `read_scenario`.

    Raises:
        ConfigError: names the key.
    """
    whole = dict(values)
    load = _load(_table(whole, "load", required=True), folder, assets)
    ask = _converted(_table(whole, "ask"), Ask, "ask")
    if ask.pictures is not None:
        ask = Ask(str(folder / ask.pictures), ask.body, ask.path, ask.headers)
    if isinstance(load, Replay):
        whole.setdefault("duration_s", load.duration_s)
    rest = {key: value for key, value in whole.items() if key not in ("load", "ask")}
    return _converted({**rest, "load": load, "ask": ask}, Scenario, "")


def _load(values: dict[str, Any], folder: Path, assets: Path | None) -> Pattern | Users | Cameras:
    if "users" in values:
        return _converted(values, Users, "load")
    if "cameras" in values:
        if (video := values.get("video")) is not None:
            values["video"] = str(_file(str(video), folder, assets))
        return _converted(values, Cameras, "load")
    if "trace" in values:
        return _replay(values, folder, assets)
    arrivals = values.pop("arrivals", None)
    if arrivals not in ARRIVALS:
        known = ", ".join([*ARRIVALS, "or a `trace`, or `users`, or `cameras`"])
        raise ConfigError(f"load.arrivals: expected one of {known}; got {arrivals!r}", field="arrivals")
    pattern: Pattern = _converted(values, ARRIVALS[arrivals], "load")
    return pattern


def _replay(values: dict[str, Any], folder: Path, assets: Path | None) -> Replay:
    name = str(values.pop("trace"))
    file = _file(name, folder, assets)
    remedy = "; it is one of the optional assets: set TIDESIGHT_ASSETS to their folder" if _of_assets(name) else ""
    try:
        with file.open(newline="") as lines:
            trace = read_trace(lines, file.name)
    except OSError as error:
        raise ConfigError(f"load.trace: cannot read {file}: {error.strerror}{remedy}", field="trace") from None
    except DataError as error:
        raise ConfigError(f"load.trace: {error.detail}", field="trace") from None
    return _converted({**values, "trace": trace}, Replay, "load")


def _of_assets(name: str) -> bool:
    return name.startswith(_ASSETS)


def _file(name: str, folder: Path, assets: Path | None) -> Path:
    return (assets or folder) / name.removeprefix(_ASSETS) if _of_assets(name) else folder / name


def _table(values: Mapping[str, Any], name: str, required: bool = False) -> dict[str, Any]:
    found = values.get(name, None if required else {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{name}: expected a table [{name}]", field=name)
    return dict(found)


def _converted(values: Mapping[str, Any], kind: type[_Value], place: str) -> _Value:
    """The values as a dataclass; unknown, missing and wrong ones are errors that name their key."""
    dot = f"{place}." if place else ""
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for key in values:
        if key not in known:
            raise ConfigError(f"{dot}{key}: unknown; there are: {', '.join(known)}", field=key)
    converted = {}
    for key, one in known.items():
        if key in values:
            converted[key] = _value(values[key], one.type, dot + key)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise ConfigError(f"{dot}{key}: missing", field=key)
    return kind(**converted)


def _value(value: Any, kind: Any, key: str) -> Any:
    if is_dataclass(value):
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{key}: {error}", field=key.rpartition(".")[2]) from None
