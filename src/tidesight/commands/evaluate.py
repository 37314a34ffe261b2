"""`tidesight evaluate`: average precision of a model on labelled pictures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tidesight.detection.detector import Detector
    from tidesight.training.dataset import Dataset
    from tidesight.training.evaluate import Evaluation


def evaluate(
    data: Annotated[
        Path, typer.Option(help="Folder in YOLO layout, or with instances.json and images/, or a YOLO data.yaml.")
    ],
    model: Annotated[Path | None, typer.Argument(help="ONNX file. (default: the embedded model)")] = None,
    labels: Annotated[Path | None, typer.Option(help="File with one class name per line.")] = None,
    engine: Annotated[str, typer.Option(help="auto, onnxruntime or openvino.")] = "auto",
    input_shape: Annotated[str, typer.Option(help="auto, as serve has it, or square.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure AP as COCO does: AP, AP50, AP75, AR and AP per class.

    Confidence from 0.01, NMS at IoU 0.5, at most 100 detections per picture. Classes are matched by name.
    """
    from tidesight.detection.detector import Detector
    from tidesight.detection.engines import with_shape
    from tidesight.training.dataset import read_dataset

    detector = Detector.open(model, engine=engine, labels=labels, plan=with_shape(None, input_shape))
    dataset = read_dataset(data, detector.class_names, split="val")
    result = evaluate_with_progress(detector, dataset)
    if as_json:
        print(json.dumps({"model": detector.model.name, "data": dataset.name, **result.as_json()}))
    else:
        _print_tables(detector.model.name, dataset.name, result)


def evaluate_with_progress(detector: "Detector", dataset: "Dataset") -> "Evaluation":
    """Evaluate, with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from tidesight.training.evaluate import evaluate as evaluate_detector

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(detector.model.name, total=len(dataset.samples))
        return evaluate_detector(detector, dataset, on_image=lambda: bar.advance(task))


def _print_tables(model: str, data: str, result: "Evaluation") -> None:
    from rich.console import Console
    from rich.table import Table

    total = Table(title=f"{model} on {data}: {result.images} pictures, {result.boxes} boxes")
    for header in ("AP", "AP50", "AP75", "AR"):
        total.add_column(header, justify="right")
    total.add_row(*(f"{figure:.4f}" for figure in (result.ap, result.ap50, result.ap75, result.ar100)))
    classes = Table("class")
    classes.add_column("AP", justify="right")
    for name, ap in sorted(result.per_class.items(), key=lambda item: -item[1]):
        classes.add_row(name, f"{ap:.4f}")
    console = Console()
    console.print(total)
    console.print(classes)
