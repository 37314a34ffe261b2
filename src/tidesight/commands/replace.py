"""`tidesight replace`: a new instance for every one of a running fleet, without a failed request."""

from typing import Annotated

import typer

from tidesight.settings import fleets_folder

_LIMIT_S = 3600.0


def replace(name: Annotated[str, typer.Option(help="Of the fleet.")] = "default") -> None:
    """Replace every instance of a running fleet, one after another, each only once another one is ready.

    As `kubectl rollout restart` does: after the model's file has changed, for instance.
    """
    import msgspec

    from tidesight.commands.fleet_client import ask
    from tidesight.fleet.state import running

    told = msgspec.json.decode(ask(running(fleets_folder() / name), "/api/replace", b"", _LIMIT_S))
    print(f"{told['replaced']} instances were replaced")
