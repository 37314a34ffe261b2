"""`tidesight demo`: serve, send real photographs in every body form; then both reference studies in small."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidesight.commands.photographs import Photograph, photographs
from tidesight.errors import ConfigError, TidesightError
from tidesight.settings import assets_folder

if TYPE_CHECKING:
    from rich.console import Console

_MOST = 9


def demo(
    out: Annotated[Path, typer.Option(help="Folder for pictures, runs and report.")] = Path("tidesight-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Only the photographs: a quarter of a minute.")] = False,
) -> None:
    """Detect real photographs on a real instance; then run both reference studies in small, on this machine.

    All of it takes about two minutes and a half, and no network. Ctrl-C ends it with what there is until then.
    """
    from rich.console import Console

    console = Console()
    show(console, out, assets_folder())
    if not quick:
        from tidesight.commands.demo_experiments import run_studies

        console.rule("two studies, reproduced in small: about two minutes")
        raise typer.Exit(run_studies(console, out, assets_folder()))


def show(console: "Console", out: Path, assets: Path) -> None:
    """Run the demo on a console.

    Raises:
        ConfigError: there are no photographs.
    """
    from rich.console import Console

    from tidesight.commands.local_server import local_server

    pictures = photographs(assets)[:_MOST]
    if not pictures:
        raise ConfigError("the demo needs photographs: pip install 'tidesight[demo]', or set TIDESIGHT_ASSETS")
    with Console(stderr=True).status("starting an instance ..."):
        server = local_server("--store", str(out))
    with server as instance:
        started = f"An instance answers at [bold]{instance.url}[/bold], {instance.start_s:.2f} s after its start"
        console.print(started, highlight=False)
        console.print(_table(instance.url, pictures))
    console.print(f"Annotated pictures and detections: [bold]{out}[/bold]")
    console.print("Next: [bold]make serve[/bold] and open the page it names, or [bold]tidesight detect PICTURE[/bold]")


def _table(url: str, pictures: list[Photograph]) -> Any:
    from rich import box
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    table = Table(title="POST /v1/detect: inference, in the server, round trip (ms)", box=box.SIMPLE_HEAD)
    for column in ("photograph", "sent as"):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    for column in ("infer", "server", "trip"):
        table.add_column(column, justify="right")
    for picture, form in track(list(_assignments(pictures)), "detecting", transient=True, console=Console(stderr=True)):
        found, round_trip_ms = _ask(url, picture, form)
        timings = found["timings_ms"]
        milliseconds = (timings["inference"], timings["total"], round_trip_ms)
        name = picture.name.removesuffix(".jpg").lstrip("0")
        table.add_row(name, form, _words(found["detections"]), *(f"{ms:.0f}" for ms in milliseconds))
    return table


def _assignments(pictures: list[Photograph]) -> Iterator[tuple[Photograph, str]]:
    """Every picture at least once, every body form at least once."""
    from tidesight.commands.body_forms import FORMS

    forms = list(FORMS)
    for number in range(max(len(pictures), len(forms))):
        yield pictures[number % len(pictures)], forms[number % len(forms)]


def _ask(url: str, picture: Photograph, form: str) -> tuple[dict[str, Any], float]:
    from http.client import HTTPException
    from time import perf_counter
    from urllib.request import Request, urlopen

    import msgspec

    from tidesight.commands.body_forms import FORMS

    body, content_type, query = FORMS[form](picture.pixels, {"store": True})
    request = Request(f"{url}/v1/detect{query}", body, {"Content-Type": content_type})  # noqa: S310 - our own URL
    started = perf_counter()
    try:
        with urlopen(request, timeout=30) as reply:  # noqa: S310
            data = reply.read()
    except (OSError, HTTPException) as error:
        raise TidesightError(f"the instance did not take {picture.name} as {form}: {error}") from None
    return msgspec.json.decode(data, type=dict[str, Any]), (perf_counter() - started) * 1000


def _words(detections: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['label']} {one['score']:.2f}" for one in detections[:3]) or "nothing"
