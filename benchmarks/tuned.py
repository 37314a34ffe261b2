"""What `tidesight tune` has saved for a model on this machine, and how much AP it costs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.accuracy import detect
from tidesight.detection.detector import Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import load_engine
from tidesight.errors import DataError, MissingExtra
from tidesight.resources import usable_resources
from tidesight.settings import tuned_folder
from tidesight.training.dataset import read_dataset
from tidesight.training.evaluate import score
from tidesight.tuning import saved

if TYPE_CHECKING:
    from tidesight.tuning.saved import Choice

Results = dict[str, Any]


def choice_for(model: Path | None) -> "Choice | None":
    """The saved choice, which `--engine auto` takes; None is the embedded model."""
    return saved.find(tuned_folder(), model or embedded_model())


def open_plain(model: Path | None, engine: str = "onnxruntime") -> list[Detector]:
    """A detector for each usable CPU, with nothing tuned."""
    threads = usable_resources().threads
    return Detector.open(model, engine=engine, threads=threads).for_threads(threads)


def open_tuned(model: Path | None, choice: "Choice") -> list[Detector]:
    """Detectors as the saved choice has them."""
    file = choice.runs(tuned_folder(), model or embedded_model())
    engine = load_engine(choice.engine, file, choice.workers, choice.plan)
    return Detector.of_engine(engine, file, plan=choice.plan).for_threads(choice.workers)


def tuned_accuracy(assets: Path, models: dict[str, Path | None], most: int | None) -> Results:
    """AP of each model for which a choice is saved, as it is and as it was tuned; and what the choice is."""
    try:
        dataset = read_dataset(assets / "coco-val-dev")
    except (DataError, MissingExtra) as error:
        return {"skipped": str(error)}
    dataset = replace(dataset, samples=dataset.samples[:most])
    found: Results = {"pictures": len(dataset.samples)}
    for name, model in models.items():
        if choice := choice_for(model):
            aps = [score(dataset, detect(of, dataset)).ap for of in (open_plain(model), open_tuned(model, choice))]
            found[name] = {"ap": aps[0], "tuned_ap": aps[1], "choice": choice.describe()}
    return found
