"""Where a setting comes from: flag > environment (`TIDESIGHT_*`, `PORT`) > file > default.

The only reader of the environment. Settings files are TOML with one table per command.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
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
        workers: Worker threads; 0 is one for each usable CPU.
        max_queue: Requests that may wait for a worker.
        max_body_bytes: Of a request body.
        max_pixels: Of a picture.
        deadline_s: For an answer, when the request does not say.
        body_timeout_s: For a request body to arrive.
        lame_duck_s: Seconds between losing readiness and the end of listening.
        grace_s: Seconds for accepted requests to finish after that.
        store: Where results go: a folder, file:///, gs:// or s3:// URL.
        store_mode: "sync" (answer once the store has a result) or "async" (once it is on the local disk).
        spool: Folder for "async", of this instance alone.
        spool_max_bytes: Of the files in it.
        store_drain_s: Seconds for uploads that wait when the instance ends.
        log_level: "debug", "info", "warning" or "error".
    """

    host: str = "127.0.0.1"
    port: int = 8080
    model: str = ""
    labels: str = ""
    engine: str = "auto"
    workers: int = 0
    max_queue: int = 256
    max_body_bytes: int = 24 * 1024 * 1024
    max_pixels: int = 40_000_000
    deadline_s: float = 10.0
    body_timeout_s: float = 10.0
    lame_duck_s: float = 0.0
    grace_s: float = 10.0
    store: str = ""
    store_mode: str = "sync"
    spool: str = "tidesight-spool"
    spool_max_bytes: int = 256 * 1024 * 1024
    store_drain_s: float = 5.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        least = {
            "port": 0, "workers": 0, "max_queue": 0, "max_body_bytes": 1, "max_pixels": 1, "deadline_s": 0.001,
            "body_timeout_s": 0.001, "lame_duck_s": 0, "grace_s": 0, "spool_max_bytes": 1, "store_drain_s": 0,
        }  # fmt: skip
        for name, minimum in least.items():
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{name}: expected a finite number, got {getattr(self, name)}", field=name)
            if not getattr(self, name) >= minimum:
                raise ConfigError(f"{name}: expected at least {minimum}, got {getattr(self, name)}", field=name)
        if self.port > 65535:
            raise ConfigError(f"port: expected at most 65535, got {self.port}", field="port")


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
    for field in fields(kind):
        value = environ.get(PREFIX + field.name.upper(), "")
        # Kubernetes puts a URL into TIDESIGHT_PORT of every pod beside a Service named "tidesight".
        if value and not (field.name == "port" and value.startswith("tcp://")):
            values[field.name] = value
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
        message = f"{name} in {source}: expected {kind.__name__}, got {value!r}"
        raise ConfigError(message, field=name) from None
