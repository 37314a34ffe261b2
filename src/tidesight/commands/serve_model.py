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

TUNED_FILE = "choices.json"  # of `tuning.saved`, which a start without one need not import


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


def model_path(settings: ServeSettings) -> Path:
    """The file that is set, or the embedded model."""
    from tidesight.detection.embedded import embedded_model

    return Path(settings.model) if settings.model else embedded_model()


def tuned_choice(settings: ServeSettings) -> "Choice | None":
    """How `tidesight tune` found the model to run best here; an engine that is named wins over it."""
    if settings.engine != "auto" or not (tuned_folder() / TUNED_FILE).is_file():
        return None
    from tidesight.tuning.saved import find

    return find(tuned_folder(), model_path(settings))


def as_tuned(settings: ServeSettings, choice: "Choice | None") -> ServeSettings:
    """The settings of an instance that runs by this choice."""
    if choice is None:
        return settings
    return replace(settings, engine=choice.engine, workers=settings.workers or choice.workers)


def load_detectors(settings: ServeSettings, tuned: "Choice | None", loaded: Loaded | None = None) -> Loaded:
    """Load the model, make a detector per worker, and see what a picture takes."""
    if loaded is not None:
        return _taken_over(loaded, settings)
    from tidesight.detection.engines import DEFAULT_PLAN, fastest_installed, load_engine, with_shape

    # The engine first: it loads without the interpreter, which imports all the rest meanwhile.
    name = fastest_installed() if settings.engine == "auto" else settings.engine
    threads = settings.workers or usable_resources().threads
    path, plan = model_path(settings), None
    if tuned is not None:
        path = tuned.runs(tuned_folder(), path)
        plan = tuned.plan if threads == tuned.workers else replace(tuned.plan, threads_each=1)
    plan = with_shape(plan, settings.input_shape)
    engine = load_engine(name, path, threads, plan or DEFAULT_PLAN)

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
    return Loaded(name, tuned is not None, first.for_threads(threads), warm_up_s)


def _taken_over(loaded: Loaded, settings: ServeSettings) -> Loaded:
    """The same model for this process, which may have other limits than the one that loaded it."""
    from tidesight.detection.image import ImageLimits

    resources = usable_resources()
    limits = ImageLimits(settings.max_body_bytes, settings.max_pixels)
    detectors = [loaded.detectors[0].clone(limits) for _ in range(settings.workers or resources.threads)]
    return replace(loaded, detectors=detectors, warm_up_s=loaded.warm_up_s / min(1.0, resources.cpus))
