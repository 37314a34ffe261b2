"""`tidesight scale`: set the count of a running fleet's instances by hand, or hand it back to the rule."""

from typing import Annotated

import typer

from tidesight.errors import ConfigError
from tidesight.settings import fleets_folder


def scale(
    count: Annotated[str, typer.Argument(help="Instances; or auto, for what the platform's rule says.")],
    name: Annotated[str, typer.Option(help="Of the fleet.")] = "default",
) -> None:
    """Set the count of a running fleet's instances by hand; `auto` hands it back to the platform's rule."""
    if count != "auto" and not count.isdecimal():
        raise ConfigError(f"scale: expected a number of instances or auto, got {count}", field="count")
    import msgspec

    from tidesight.commands.fleet_client import ask
    from tidesight.fleet.state import running

    fleet = running(fleets_folder() / name)
    ask(fleet, "/api/scale", msgspec.json.encode({"count": None if count == "auto" else int(count)}))
    print("the platform's rule decides" if count == "auto" else f"{count} instances are wanted")
