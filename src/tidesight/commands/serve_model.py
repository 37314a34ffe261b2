"""Loading the model of an instance, or taking over one that was loaded before this process was forked."""

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from tidesight.errors import ModelError
from tidesight.resources import usable_resources
from tidesight.settings import ServeSettings, tuned_folder

if TYPE_CHECKING:
    from tidesight.detection.detector import Detector
    from tidesight.tuning.saved import Choice


@dataclass(frozen=True)
class Loaded:
    """A loaded and warm model.

    Attributes:
        engine: Its name.
        tuned: Whether it runs as `tidesight tune` found best.
        detectors: One for each worker.
        warm_up_s: What a picture took.
    """

    engine: str
    tuned: bool
    detectors: list["Detector"]
    warm_up_s: float


def load_detectors(settings: ServeSettings, tuned: "Choice | None", loaded: Loaded | None = None) -> Loaded:
    """Load the model, make a detector per worker, and see what a picture takes."""
    if loaded is not None:
        return _taken_over(loaded, settings)
    from tidesight.detection.embedded import embedded_model
    from tidesight.detection.engines import DEFAULT_PLAN, fastest_installed, load_engine

    # The engine first: it loads without the interpreter, which imports all the rest meanwhile.
    name = fastest_installed() if settings.engine == "auto" else settings.engine
    threads = settings.workers or usable_resources().threads
    path = Path(settings.model) if settings.model else embedded_model()
    plan = DEFAULT_PLAN
    if tuned is not None:
        path = tuned_folder() / tuned.file if tuned.file else path
        plan = tuned.plan if threads == tuned.workers else replace(tuned.plan, threads_each=1)
    engine = load_engine(name, path, threads, plan)

    from tidesight.detection.detector import Detector
    from tidesight.detection.image import ImageLimits, be_quiet_about_bad_pictures

    be_quiet_about_bad_pictures()
    labels = Path(settings.labels) if settings.labels else None
    limits = ImageLimits(settings.max_body_bytes, settings.max_pixels)
    first = Detector.of_engine(engine, path, labels, limits, plan)
    started = perf_counter()
    try:
        first.warm_up()
    except Exception as error:  # each library raises its own types
        raise ModelError(f"{path.name}: loads, but fails on its first picture: {error}") from error
    warm_up_s = perf_counter() - started
    return Loaded(name, tuned is not None, [first, *(first.clone() for _ in range(threads - 1))], warm_up_s)


def _taken_over(loaded: Loaded, settings: ServeSettings) -> Loaded:
    """The same model for this process, which may have other limits than the one that loaded it."""
    from tidesight.detection.image import ImageLimits

    resources = usable_resources()
    limits = ImageLimits(settings.max_body_bytes, settings.max_pixels)
    detectors = [loaded.detectors[0].clone(limits) for _ in range(settings.workers or resources.threads)]
    return replace(loaded, detectors=detectors, warm_up_s=loaded.warm_up_s / min(1.0, resources.cpus))
