"""Accuracy of every supported model on labelled photographs, against the figures its file came with.

The large models take minutes: they run on all pictures only with `TIDESIGHT_TEST_FULL=1`, else on one.
"""

import csv
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import pytest

from tidesight.detection.detections import Detections
from tidesight.detection.detector import Detector
from tidesight.detection.engines import RunPlan
from tidesight.detection.image import Pixels, decode_image
from tidesight.errors import ModelError
from tidesight.training.dataset import Dataset, read_dataset
from tidesight.training.evaluate import OPTIONS, evaluate, score

FULL = os.environ.get("TIDESIGHT_TEST_FULL") == "1"
OTHERS = "agpl-compat-only"
AP_TOLERANCE = 0.01

large = pytest.mark.skipif(not FULL, reason="takes minutes; set TIDESIGHT_TEST_FULL=1")
# Model file -> the file whose reference figures are its own.
CHEAP = {
    "yolox-nano.onnx": "yolox-nano.onnx",
    "yolox-nano-dynbatch.onnx": "yolox-nano.onnx",
    f"{OTHERS}/yolo11n-int8-320.onnx": f"{OTHERS}/yolo11n-int8-320.onnx",
}
LARGE = [f"{OTHERS}/yolov8n-int8.onnx", f"{OTHERS}/yolo26n-int8-e2e.onnx"]
Find = Callable[[str, bool], tuple[Detections, ...]]


def decoded(file: Path) -> Pixels:
    """A picture decoded in full, as references were computed."""
    return decode_image(file.read_bytes()).pixels


@pytest.fixture(scope="module")
def notes(assets: Path) -> dict[str, str]:
    """What is known of each model file."""
    with (assets / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["path"].removeprefix("models/"): row["notes"] for row in rows}


@pytest.fixture(scope="module")
def photographs(assets: Path) -> Dataset:
    return read_dataset(assets / "coco-val-dev")


@pytest.fixture(scope="module")
def find(assets: Path, photographs: Dataset) -> Find:
    """Run a model ("" is the embedded one) over all photographs, once for all tests that ask."""

    @cache
    def run(model: str, in_full: bool) -> tuple[Detections, ...]:
        free: SimpleQueue[Detector] = SimpleQueue()
        for _ in range(2):
            free.put(Detector.open(assets / "models" / model if model else None, engine="onnxruntime"))

        def one(file: Path) -> Detections:
            detector = free.get()
            try:
                return detector.detect(decoded(file) if in_full else file.read_bytes(), OPTIONS)
            finally:
                free.put(detector)

        with ThreadPoolExecutor(2) as threads:  # a detector each, as in an instance
            return tuple(threads.map(one, (sample.image for sample in photographs.samples)))

    return run


def reference_ap(note: str) -> float:
    found = re.search(r"\bAP=(0\.\d+)", note)
    assert found, note
    return float(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("model", CHEAP)
def test_ap_is_the_reference(model: str, find: Find, notes: dict[str, str], photographs: Dataset) -> None:
    ap = score(photographs, find(model, False)).ap
    assert ap == pytest.approx(reference_ap(notes[CHEAP[model]]), abs=AP_TOLERANCE)


@large
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", LARGE)
def test_ap_of_large_models_is_the_reference(
    model: str, find: Find, notes: dict[str, str], photographs: Dataset
) -> None:
    ap = score(photographs, find(model, False)).ap
    assert ap == pytest.approx(reference_ap(notes[model]), abs=AP_TOLERANCE)


@pytest.mark.slow
def test_ap_of_the_embedded_model(find: Find, photographs: Dataset) -> None:
    result = score(photographs, find("", False))
    assert result.ap > 0.31
    assert result.ap50 > 0.47
    assert (result.images, len(result.per_class)) == (164, 77)
    square = Detector.open(engine="onnxruntime", plan=RunPlan())
    assert result.ap >= evaluate(square, photographs).ap - 0.002, "what the cut input loses"


@pytest.mark.slow
def test_the_embedded_model_gained_on_its_data_and_forgot_little(
    assets: Path, find: Find, photographs: Dataset
) -> None:
    def gained(model: Path | None) -> float:
        detector = Detector.open(model, engine="onnxruntime")
        return evaluate(detector, read_dataset(assets / "coco128", detector.class_names)).ap

    with ThreadPoolExecutor(2) as threads:
        base, embedded = threads.map(gained, (assets / "models/yolox-nano.onnx", None))
    assert embedded > base
    base, embedded = (score(photographs, find(model, False)).ap for model in ("yolox-nano.onnx", ""))
    assert base == pytest.approx(0.321, abs=0.01)
    assert embedded >= base - 0.01


@pytest.mark.slow
def test_reduced_decode_leaves_ap_as_it_is(find: Find, photographs: Dataset) -> None:
    model = f"{OTHERS}/yolo11n-int8-320.onnx"  # most of the photographs are twice its input
    reduced, full = find(model, False), find(model, True)
    assert any((one.boxes.shape != other.boxes.shape) for one, other in zip(reduced, full, strict=True))
    assert score(photographs, reduced).ap == pytest.approx(score(photographs, full).ap, abs=0.003)


def reference_scores(note: str) -> list[tuple[str, float]]:
    """("bus", 0.91), ("person", 0.85), ... from "bus.jpg -> bus .91 person .85 .81 .69"."""
    found = re.search(r"bus\.jpg -> ((?:[a-z]+(?: \.\d+)+ ?)+)", note)
    assert found, note
    scores, label = [], ""
    for word in found[1].split():
        if word.startswith("."):
            scores.append((label, float(word)))
        else:
            label = word
    return scores


def best_scores(found: Detections, labels: Sequence[str]) -> list[tuple[str, float]]:
    """The best score for each of these labels, in order; a label twice is its second-best, and so on."""
    left = [(d.label, d.score) for d in found]
    taken = []
    for label in labels:
        taken.append(next(pair for pair in left if pair[0] == label))
        left.remove(taken[-1])
    return taken


@pytest.mark.parametrize("model", ["yolox-nano.onnx", *list(CHEAP)[2:], *LARGE])
def test_one_photograph_gives_the_reference_scores(model: str, assets: Path, notes: dict[str, str]) -> None:
    expected = reference_scores(notes[model])
    assert len(expected) >= 4
    detector = Detector.open(assets / "models" / model, engine="onnxruntime")
    found = best_scores(detector.detect(decoded(assets / "media/bus.jpg")), [label for label, _ in expected])
    assert [value for _, value in found] == pytest.approx([value for _, value in expected], abs=0.02)


def test_a_model_of_other_classes(assets: Path) -> None:
    detector = Detector.open(assets / "models/yolox-nano-weeds3.onnx", engine="onnxruntime")
    found = detector.detect((assets / "media/weeds-3class-sample.jpg").read_bytes())
    assert len(detector.class_names) == 3
    assert [d.class_id for d in found][:2] == [1, 0]
    assert found.scores[:2].tolist() == pytest.approx([0.91, 0.78], abs=0.02)


def test_a_model_whose_scores_broke_finds_nothing(assets: Path) -> None:
    detector = Detector.open(assets / f"models/{OTHERS}/yolov8n-int8-broken-scores.onnx", engine="onnxruntime")
    assert len(detector.detect((assets / "media/bus.jpg").read_bytes())) == 0


@pytest.mark.parametrize("name", ["fastestdet-352", "nanodet-m-416", "picodet-s-320", "picodet-s-416"])
def test_a_head_that_is_not_supported_is_refused_with_what_is(name: str, assets: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown output.*Outputs: .*Supported.*YOLOX"):
        Detector.open(assets / f"models/{name}.onnx", engine="onnxruntime")
