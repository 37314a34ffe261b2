"""`python -m tidesight.commands.serve_template`: the process that forks a fleet's instances; see `fleet/forking.py`.

It takes the options of `tidesight serve`, loads the model and all that an instance imports, and serves nothing itself.
"""

import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import click

from tidesight.commands.serve import load_model, run_instance, serve
from tidesight.errors import ConfigError, TidesightError
from tidesight.fleet.forking import Forker
from tidesight.fleet.lifeline import end_with
from tidesight.settings import ServeSettings, serve_settings

if TYPE_CHECKING:
    from tidesight.detection.detector import Detector

# What an instance imports on its way to the first answer, besides what loading the model brings.
_USED_LATER = (
    "tidesight.results.writer",
    "tidesight.serving.lifecycle",
    "tidesight.serving.memory",
    "tidesight.serving.workers",
    "uvicorn.lifespan.off",
    "uvicorn.loops.uvloop",
    "uvloop",
)


def main() -> None:
    """Load, and fork until the controller has gone; errors are printed as `tidesight serve` would."""
    options = [*serve.params, click.Option(["--channel-fd"], type=int, required=True)]
    flags = click.Command("serve_template", params=options).make_context("serve_template", sys.argv[1:]).params
    channel, config = socket.socket(fileno=flags.pop("channel_fd")), flags.pop("config")
    sys.exit(_exit_code(lambda: _run(serve_settings(flags, config), channel)))


def _run(settings: ServeSettings, channel: socket.socket) -> int:
    end_with(settings.lifeline_fd, parent=True)
    for name in _USED_LATER:
        import_module(name)
    loaded = load_model(settings)
    _rehearse(loaded.detectors[0])
    # A fork is tied to the lifeline before it gets here, and not to its parent, which is this process.
    forked = replace(settings, lifeline_fd=-1)

    def serve_forked(own: Mapping[str, str]) -> int:
        return _exit_code(lambda: run_instance(replace(forked, **dict(own)), loaded))  # type: ignore[arg-type]

    Forker(channel, settings.lifeline_fd, serve_forked).run()
    return 0


def _rehearse(detector: "Detector") -> None:
    """Do what a first request does, so that no fork pays for what libraries set up when they are first used."""
    import numpy as np

    from tidesight.detection.annotate import encode_jpeg
    from tidesight.detection.image import ImageLimits
    from tidesight.serving.work import WorkOrder, perform

    for width_px, height_px in ((512, 512), (1920, 1080)):  # decoded in full, and reduced
        picture = encode_jpeg(np.full((height_px, width_px, 3), 114, np.uint8))
        for drawn in (True, False):
            perform(WorkOrder(picture, "image/jpeg", {}, drawn, ImageLimits()), detector)


def _exit_code(run: Callable[[], int]) -> int:
    try:
        return run()
    except TidesightError as error:
        print(f"tidesight: {error.detail}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    main()
