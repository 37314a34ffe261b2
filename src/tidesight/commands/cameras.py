"""`tidesight cameras`: watch cameras with a fleet."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from tidesight.errors import ConfigError, MissingExtra


def cameras(
    config: Annotated[Path, typer.Argument(help="TOML file with a [[camera]] for each source.")],
    url: Annotated[list[str], typer.Option(help="Of a fleet or an instance; may be given several times.")],
    events: Annotated[Path | None, typer.Option(help="File for events, a line of JSON each.")] = None,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Least score; 0.1 where objects are tracked.")] = 0.25,
    most_in_flight: Annotated[int, typer.Option(min=1, help="Requests under way at most.")] = 64,
    host: Annotated[str, typer.Option(help="Where the page listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0 takes a free one.")] = 8090,
    api_key: Annotated[
        str, typer.Option(envvar="TIDESIGHT_API_KEY", help="Of the fleet; better in the environment.", show_default="")
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Only say whether the file is right.")] = False,
) -> None:
    """Watch cameras: the freshest frames of each, in fair shares, with zones, lines, tracks, events and a live page.

    Runs until SIGINT or SIGTERM. The page has the pictures of all cameras, and /metrics for Prometheus.
    """
    import cv2

    from tidesight.streams.cameras.config import load_config
    from tidesight.streams.limit import LimitSettings
    from tidesight.streams.options import FleetOptions

    read = load_config(config)
    cv2.setNumThreads(1)  # its threads spin between pictures as small as these, on CPUs that instances may share
    limit = LimitSettings(most=most_in_flight, start=min(4, most_in_flight))
    fleet = FleetOptions(tuple(url), api_key, {"confidence": f"{confidence:g}"}, limit=limit)
    _need_extra()
    if check:
        names = ", ".join(camera.name for camera in read.cameras)
        print(f"{config} is right: {len(read.cameras)} cameras: {names}")
        return
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)

    import uvloop

    from tidesight.streams.cameras.page import cameras_app
    from tidesight.streams.cameras.serve import serve
    from tidesight.streams.cameras.watch import Watch

    async def main() -> None:
        watch = Watch(read, fleet, events)
        await serve(cameras_app(watch), host, port)

    try:
        uvloop.run(main())
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; give another --port") from None


def _need_extra() -> None:
    from importlib.util import find_spec

    for package in ("av", "aiohttp"):
        if find_spec(package) is None:
            raise MissingExtra(package, "streams")
