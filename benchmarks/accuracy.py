"""AP of every supported model of the assets on coco-val-dev, beside the figure that came with its file."""

import csv
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.rounds import Results as Figures
from tidesight.detection.detections import Detections
from tidesight.detection.detector import DetectOptions, Detector
from tidesight.detection.image import ImageLimits, decode_image
from tidesight.errors import DataError, MissingExtra, ModelError
from tidesight.resources import usable_resources
from tidesight.training.dataset import Dataset, read_dataset
from tidesight.training.evaluate import OPTIONS, Evaluation, score

EMBEDDED = "embedded"
BROKEN = "agpl-compat-only/yolov8n-int8-broken-scores.onnx"
OTHER_CLASSES = "yolox-nano-weeds3.onnx"
OTHER_PICTURE = "media/weeds-3class-sample.jpg"
DECODED_IN_FULL = (EMBEDDED, "agpl-compat-only/yolo11n-int8-320.onnx")
_FEW = 8


def accuracy(assets: Path, most: int | None = None) -> Figures:
    """AP by model, and what a reduced decode changes; "skipped" says what is needed and not there.

    Args:
        assets: Folder with MANIFEST.tsv, models/, media/ and coco-val-dev/.
        most: Look at this many pictures only.
    """
    try:
        import faster_coco_eval  # noqa: F401 - missing? Then say so before minutes of detection, not after

        dataset = read_dataset(assets / "coco-val-dev")
        notes = _notes(assets / "MANIFEST.tsv")
    except (ImportError, DataError, MissingExtra, OSError) as error:
        return {"skipped": str(error)}
    in_all = len(dataset.samples)
    dataset = replace(dataset, samples=dataset.samples[:most])
    found: Figures = {"pictures": in_all, "used": len(dataset.samples), "models": [], "refused": [], "decode": []}
    files = sorted((assets / "models").rglob("*.onnx"))
    names = {EMBEDDED: None, **{str(file.relative_to(assets / "models")): file for file in files}}
    for name, file in names.items():
        print(f"  {name}", flush=True)
        try:
            detectors = _detectors(file)
        except ModelError:
            found["refused"].append(name)
            continue
        _measure(found, name, detectors, dataset, assets, notes.get(name, ""))
    found["missing"] = {name: "not in the assets" for name in notes if name not in names}
    return found


def _measure(found: Figures, name: str, detectors: list[Detector], dataset: Dataset, assets: Path, note: str) -> None:
    """Add what there is to say of one model."""
    if name == OTHER_CLASSES:
        found["other_classes"] = _on_one_picture(detectors[0], assets / OTHER_PICTURE)
    elif name == BROKEN:
        few = replace(dataset, samples=dataset.samples[:_FEW])
        count = sum(map(len, detect(detectors, few)))
        found["broken"] = {"model": name, "pictures": len(few.samples), "detections": count}
    else:
        result = score(dataset, detect(detectors, dataset))
        found["models"].append(_row(name, detectors[0], result, note))
        if name in DECODED_IN_FULL:
            found["decode"].append(_decoded_in_full(name, detectors, dataset, result.ap))


def _notes(manifest: Path) -> dict[str, str]:
    """What the assets say of each model file, by its path in models/."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["path"].removeprefix("models/"): row["notes"] for row in rows if row["path"].startswith("models/")}


def _detectors(file: Path | None) -> list[Detector]:
    """One detector for each usable CPU."""
    threads = usable_resources().threads
    return Detector.open(file, engine="onnxruntime", threads=threads).for_threads(threads)


def detect(detectors: Sequence[Detector], dataset: Dataset, in_full: bool = False) -> list[Detections]:
    """What is found in each picture, in order, one thread for each detector; `in_full`: no reduced decode."""

    def work(first: int) -> list[Detections]:
        files = [sample.image.read_bytes() for sample in dataset.samples[first :: len(detectors)]]
        return [detectors[first].detect(decode_image(f).pixels if in_full else f, OPTIONS) for f in files]

    with ThreadPoolExecutor(len(detectors)) as pool:
        parts = list(pool.map(work, range(len(detectors))))
    return [parts[i % len(detectors)][i // len(detectors)] for i in range(len(dataset.samples))]


def _row(name: str, detector: Detector, result: Evaluation, note: str) -> dict[str, Any]:
    given = re.search(r"\bAP=(0\.\d+)", note)
    model = detector.model
    return {
        "model": name,
        "input": f"{model.input_width_px}x{model.input_height_px}{'' if detector.plan.margin_px is None else ', cut'}",
        "head": model.head.name,
        "given_ap": float(given[1]) if given else None,
        "ap": round(result.ap, 4),
        "ap50": round(result.ap50, 4),
    }


def _on_one_picture(detector: Detector, picture: Path) -> dict[str, Any]:
    found = detector.detect(picture.read_bytes(), DetectOptions())
    best = [[one.label, round(one.score, 3)] for one in found]
    return {"model": OTHER_CLASSES, "picture": picture.name, "detections": best}


def _decoded_in_full(name: str, detectors: list[Detector], dataset: Dataset, reduced_ap: float) -> dict[str, Any]:
    model = detectors[0].model
    enough = (model.input_width_px, model.input_height_px)
    decoded = [decode_image(sample.image.read_bytes(), ImageLimits(), enough) for sample in dataset.samples]
    full = score(dataset, detect(detectors, dataset, in_full=True)).ap
    return {
        "model": name,
        "reduced_pictures": sum(one.pixels.shape[1] < one.width_px for one in decoded),
        "reduced_ap": round(reduced_ap, 4),
        "full_ap": round(full, 4),
    }
