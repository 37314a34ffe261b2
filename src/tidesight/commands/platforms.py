"""`tidesight platforms`: every number of a platform, with its source and date."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tidesight.errors import ConfigError
from tidesight.platforms.numbers import Number
from tidesight.platforms.registry import PLATFORMS, parse_assignments, platform, read_overrides


def platforms(
    name: Annotated[str | None, typer.Argument(help=f"{', '.join(PLATFORMS)}, or module:function.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a number; may be repeated.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file whose table [platform.NAME] sets numbers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print every number of a platform with its source, its date and how sure it is; without NAME, the platforms.

    Numbers set by --set win over those of the file. What cannot be is refused: try a setting here before you use it.
    """
    if name is None:
        if set_ or config:
            raise ConfigError("--set and --config need the name of a platform", field="name")
        _print_names(as_json)
        return
    in_file = read_overrides(config, name) if config else {}
    found = platform(name, {**in_file, **parse_assignments(set_ or [])})
    if as_json:
        numbers = [{**asdict(one), "allowed": _allowed(one), "overridden": one.overridden} for one in found.numbers]
        shown = {"name": found.name, "policy": found.scaling.policy, "numbers": numbers}
        print(msgspec.json.Encoder(decimal_format="number").encode(shown).decode())
    else:
        _print(found.numbers)


def _print_names(as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"platforms": list(PLATFORMS)}).decode())
    else:
        print("\n".join(PLATFORMS))


def _print(numbers: tuple[Number, ...]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("number", "value", "what", "source", show_lines=True)
    for column in table.columns:
        column.overflow = "fold"
    for one in numbers:
        value = f"{_text(one.value)} {one.unit}".strip()
        about = f"{one.about} ({_allowed(one)})"
        source = f"{one.source.where}, {one.source.as_of}, {one.source.certainty}"
        if one.overridden:
            source = f"set here; {_text(one.default)} according to {source}"
        table.add_row(*map(escape, (one.key, value, about, source)), style="yellow" if one.overridden else None)
    Console().print(table)


def _allowed(one: Number) -> str:
    if one.allowed is None:
        return "true, false" if isinstance(one.value, bool) else "any"
    return ", ".join(one.allowed) if isinstance(one.allowed, tuple) else str(one.allowed)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
