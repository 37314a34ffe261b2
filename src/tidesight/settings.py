"""Where a setting comes from: flag > environment (`TIDESIGHT_*`, `PORT`) > file > default.

The only reader of the environment. Settings files are TOML with one table per command.
"""

import math
import os
import re
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from tidesight.errors import ConfigError

PREFIX = "TIDESIGHT_"


@dataclass(frozen=True)
class ServeSettings:
    """Settings of one instance.

    Attributes:
        host: Address to listen on.
        port: Port, 0 to 65535; 0 takes a free one.
        model: ONNX file; empty is the embedded model.
        labels: File with one class name per line; empty takes the model's own.
        engine: "auto", "onnxruntime", "openvino" or "fake".
        input_shape: "auto" cuts the input to the picture where model and engine gain by it, "square" never does.
        workers: Worker threads; 0 is one for each usable CPU.
        worker_hang_s: After which a picture is given up, and its worker thread with it.
        max_queue: Requests that may wait for a worker.
        max_body_bytes: Of a request body.
        max_pixels: Of a picture; 0 is what the memory allows, at most 40 million.
        deadline_s: For an answer, when the request does not say.
        body_timeout_s: For a request body to arrive.
        max_connections: At a time; no more than the process may have open files.
        lame_duck_s: Seconds between losing readiness and the end of listening.
        grace_s: Seconds for accepted requests to finish after that.
        store: Where results go: a folder, file:///, gs:// or s3:// URL.
        store_mode: "sync" (answer once the store has a result) or "async" (once it is on the local disk).
        spool: Folder for "async", of this instance alone.
        spool_max_bytes: Of the files in it.
        store_drain_s: Seconds for uploads that wait when the instance ends.
        api_keys: Keys of which a request needs one, separated by commas; from the environment or a file, never a flag.
        api_key_file: File of more keys, one per line; changes are followed.
        log_level: "debug", "info", "warning" or "error".
        log_format: "text" or "json" (one object per line).
        access_log: Requests with a line of their own: "all", "errors" (400 and up) or "off".
        traces: "otlp" sends OpenTelemetry spans to where the OTEL_* variables say; "off" sends none.
        instance: Its name in answers: up to 64 letters, digits, dots, dashes and underscores; empty makes one up.
        lifeline_fd: Read end of an inherited pipe; the instance is killed when its other end closes, or whoever started
            it ends. -1 is none.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    model: str = ""
    labels: str = ""
    engine: str = "auto"
    input_shape: str = "auto"
    workers: int = 0
    worker_hang_s: float = 30.0
    max_queue: int = 256
    max_body_bytes: int = 24 * 1024 * 1024
    max_pixels: int = 0
    deadline_s: float = 10.0
    body_timeout_s: float = 10.0
    max_connections: int = 2048
    lame_duck_s: float = 0.0
    grace_s: float = 10.0
    store: str = ""
    store_mode: str = "sync"
    spool: str = "tidesight-spool"
    spool_max_bytes: int = 256 * 1024 * 1024
    store_drain_s: float = 5.0
    # A flag would show in the list of processes, a value in an error or a dump in the log.
    api_keys: str = field(default="", repr=False, metadata={"secret": True})
    api_key_file: str = ""
    log_level: str = "info"
    log_format: str = "text"
    access_log: str = "all"
    traces: str = "off"
    instance: str = ""
    lifeline_fd: int = -1

    def __post_init__(self) -> None:
        least = {
            "port": 0, "workers": 0, "worker_hang_s": 0.001, "max_queue": 0, "max_body_bytes": 1, "max_pixels": 0,
            "deadline_s": 0.001, "body_timeout_s": 0.001, "max_connections": 1, "lame_duck_s": 0,
            "grace_s": 0, "spool_max_bytes": 1, "store_drain_s": 0, "lifeline_fd": -1,
        }  # fmt: skip
        for name, minimum in least.items():
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{name}: expected a finite number, got {getattr(self, name)}", field=name)
            if not getattr(self, name) >= minimum:
                raise ConfigError(f"{name}: expected at least {minimum}, got {getattr(self, name)}", field=name)
        if not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", self.instance):
            raise ConfigError(
                f"instance: expected letters, digits, '.', '_' and '-', got {self.instance!r}", field="instance"
            )
        if self.port > 65535:
            raise ConfigError(f"port: expected at most 65535, got {self.port}", field="port")


SECRETS = frozenset(one.name for one in fields(ServeSettings) if one.metadata.get("secret"))
"""Settings that are no flags and are never shown."""


def serve_settings(
    flags: Mapping[str, Any], file: Path | None = None, environ: Mapping[str, str] | None = None
) -> ServeSettings:
    """Settings of `tidesight serve`.

    Args:
        flags: Command-line values by setting name; None where a flag was not given.
        file: A TOML file whose table `[serve]` is read, or None.
        environ: The environment; None is the process's own.

    Raises:
        ConfigError: an unknown name or a value of the wrong type, with the place it came from.
    """
    environ = os.environ if environ is None else environ
    settings = ServeSettings()
    for source, values in (
        (str(file), _from_file(file, "serve")),
        ("the environment", _from_environment(environ, ServeSettings)),
        ("the command line", {name: value for name, value in flags.items() if value is not None}),
    ):
        settings = _override(settings, values, source)
    return settings


def serve_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Settings of `tidesight serve` that the environment gives, by name: for one that does not inherit it."""
    return _from_environment(os.environ if environ is None else environ, ServeSettings)


def add_api_key(file: str | None, key: str, environ: MutableMapping[str, str] | None = None) -> bool:
    """Have the instances that this process starts accept one more key, if they want keys at all; whether they do.

    Args:
        file: Of keys, as given on the command line; None where it was not.
        key: For whoever looks after the instances.
        environ: The environment that they inherit; None is the process's own.
    """
    environ = os.environ if environ is None else environ
    keys = environ.get(f"{PREFIX}API_KEYS", "")
    if not (keys or file or environ.get(f"{PREFIX}API_KEY_FILE")):
        return False
    environ[f"{PREFIX}API_KEYS"] = ",".join(filter(None, (keys, key)))
    return True


def tuned_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where `tidesight tune` keeps its choices: `TIDESIGHT_TUNED`, by default in the user's cache folder."""
    environ = os.environ if environ is None else environ
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or ".") / ".cache")
    return Path(environ.get("TIDESIGHT_TUNED") or Path(cache) / "tidesight" / "tuned")


def fleets_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where fleets keep what they are: `TIDESIGHT_FLEETS`, by default in the user's state folder."""
    environ = os.environ if environ is None else environ
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or ".") / ".local" / "state")
    return Path(environ.get("TIDESIGHT_FLEETS") or Path(state) / "tidesight" / "fleets")


def assets_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where the optional test assets are: `TIDESIGHT_ASSETS`, by default `../shared/assets`."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("TIDESIGHT_ASSETS", "../shared/assets"))


def _from_file(file: Path | None, table: str) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        with file.open("rb") as stream:
            found = tomllib.load(stream).get(table, {})
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise ConfigError(f"cannot read {file}: {error}", field="config") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: {table} is not a table", field="config")
    return found


def _from_environment(environ: Mapping[str, str], kind: type) -> dict[str, str]:
    values = {"port": environ["PORT"]} if environ.get("PORT") else {}
    for setting in fields(kind):
        value = environ.get(PREFIX + setting.name.upper(), "")
        # Kubernetes puts a URL into TIDESIGHT_PORT of every pod beside a Service named "tidesight".
        if value and not (setting.name == "port" and value.startswith("tcp://")):
            values[setting.name] = value
    return values


def _override(settings: ServeSettings, values: Mapping[str, Any], source: str) -> ServeSettings:
    kinds = get_type_hints(ServeSettings)
    unknown = values.keys() - kinds.keys()
    if unknown:
        name = min(unknown)
        raise ConfigError(f"unknown setting {name!r} in {source}; there are: {', '.join(kinds)}", field=name)
    converted = {name: _convert(name, value, kinds[name], source) for name, value in values.items()}
    try:
        return replace(settings, **converted)
    except ConfigError as error:
        raise ConfigError(f"{error.detail} (from {source})", field=error.field) from None


def _convert(name: str, value: Any, kind: type, source: str) -> Any:
    try:
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise TypeError
        if isinstance(value, float) and kind is not float:
            raise TypeError
        return kind(value)
    except (ValueError, TypeError):
        shown = type(value).__name__ if name in SECRETS else repr(value)
        message = f"{name} in {source}: expected {kind.__name__}, got {shown}"
        raise ConfigError(message, field=name) from None
