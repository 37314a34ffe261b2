"""`tidesight status`: what a running fleet looks like."""

from typing import Annotated

import typer

from tidesight.settings import fleets_folder


def status(
    name: Annotated[str, typer.Option(help="Of the fleet.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a running fleet: its instances, what came and what was answered, the latest decisions, what it costs."""
    import msgspec

    from tidesight.commands.fleet_client import ask
    from tidesight.fleet.snapshot import Snapshot
    from tidesight.fleet.state import running

    fleet = running(fleets_folder() / name)
    told = ask(fleet, "/api/status")
    if as_json:
        shown = {**msgspec.json.decode(told), "page": fleet.page, "pid": fleet.pid}
        print(msgspec.json.encode(shown).decode())
        return
    from rich.console import Console

    from tidesight.fleet.terminal import fleet_view

    Console().print(fleet_view(msgspec.json.decode(told, type=Snapshot)))
