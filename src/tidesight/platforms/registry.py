"""Every platform by name, and how its numbers are set: KEY=VALUE texts, or a table of a TOML file."""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from tidesight.errors import ConfigError
from tidesight.platforms.numbers import Settings, must_be_in
from tidesight.platforms.platform import Platform
from tidesight.platforms.prices import PREFIX, Prices, price_list

# name: "module:function"; the function takes its settings, made of `numbers.number`, and its prices
PLATFORMS = {
    "gke": "tidesight.platforms.gke:gke",
    "cloud-run": "tidesight.platforms.cloud_run:cloud_run",
    "app-engine-standard": "tidesight.platforms.app_engine:app_engine_standard",
    "app-engine-flexible": "tidesight.platforms.app_engine:app_engine_flexible",
}
ALIASES = {"app-engine": "app-engine-standard"}
Overrides = Mapping[str, Any]


def platform(name: str, overrides: Overrides | None = None) -> Platform:
    """A platform, with some of its numbers set.

    Args:
        name: One of `PLATFORMS`, or "module:function" of one's own.
        overrides: Values by key, such as {"max_instances": 3, "price.cluster_h": 0}.

    Raises:
        ConfigError: there is no such platform or key, or a value that cannot be.
    """
    name = ALIASES.get(name, name)
    make, kind = _builder(name)
    settings, prices = kind(), price_list(name)
    values = dict(overrides or {})
    known = {one.key: one for one in (*settings.numbers, *prices.numbers)}
    for key in values:
        must_be_in(known, key)
    of_prices = {key: value for key, value in values.items() if key.startswith(PREFIX)}
    of_settings = {key: value for key, value in values.items() if key not in of_prices}
    return make(settings.with_values(of_settings), prices.with_values(of_prices))


def parse_assignments(assignments: Iterable[str]) -> Overrides:
    """Overrides from KEY=VALUE texts; a value is JSON where it can be, else text.

    Raises:
        ConfigError: one without "=", or a key that is there twice.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not key or key in values:
            expected = f"{key} is set twice" if key in values else "expected KEY=VALUE"
            raise ConfigError(f"--set {assignment}: {expected}", field="set")
        try:
            values[key] = json.loads(text, parse_float=Decimal)
        except ValueError:
            values[key] = text
    return values


def read_overrides(file: Path, name: str) -> Overrides:
    """Overrides from the table `[platform.NAME]` of a TOML file; tables inside it are dotted keys. None there: none.

    Raises:
        ConfigError: the file cannot be read, or has a table for a platform that does not exist.
    """
    name = ALIASES.get(name, name)
    try:
        with file.open("rb") as stream:
            tables = tomllib.load(stream, parse_float=Decimal).get("platform", {})
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise ConfigError(f"cannot read {file}: {error}", field="config") from None
    if not isinstance(tables, dict):
        raise ConfigError(f"{file}: expected tables [platform.NAME]", field="config")
    try:
        for table in tables:
            must_be_in({**PLATFORMS, name: ""}, table)
    except ConfigError as error:
        raise ConfigError(f"{file}, [platform]: {error.detail}", field=error.field) from None
    return _dotted(tables.get(name, {}), file)


def _dotted(table: Any, place: object, prefix: str = "") -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{place}: expected tables [platform.NAME]", field="config")
    values: dict[str, Any] = {}
    for key, value in table.items():
        nested = _dotted(value, place, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        values.update(nested)
    return values


def _builder(name: str) -> tuple[Callable[[Any, Prices], Platform], type[Settings]]:
    module, _, function = PLATFORMS.get(name, name).partition(":")
    if not function:
        must_be_in(PLATFORMS, name)
    try:
        make: Callable[[Any, Prices], Platform] = getattr(import_module(module), function)
        kind, _prices = (hint for key, hint in get_type_hints(make).items() if key != "return")
        if not issubclass(kind, Settings):
            raise TypeError(kind)
    except (ImportError, AttributeError, ValueError, TypeError):
        raise ConfigError(f"{name}: expected module:function(settings, prices)", field="platform") from None
    return make, kind
