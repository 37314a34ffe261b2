"""`tidesight quantize`: an INT8 version of a model, unless it loses too much."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from tidesight.errors import ModelError

if TYPE_CHECKING:
    from tidesight.training.dataset import Dataset, Sample
    from tidesight.training.quantize import Trial


def quantize(
    data: Annotated[Path, typer.Option(help="Labelled pictures to calibrate and to measure AP on.")],
    model: Annotated[Path | None, typer.Argument(help="FP32 ONNX file. (default: the embedded model)")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write. (default: <model>-int8.onnx here)")] = None,
    max_drop: Annotated[float, typer.Option(min=0, help="AP that may be lost.")] = 0.01,
    calibrate: Annotated[int, typer.Option(min=1, help="Pictures to calibrate on.")] = 64,
    engine: Annotated[str, typer.Option(help="What to measure with: auto, onnxruntime or openvino.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write an INT8 model, or refuse with the figures when every recipe loses more AP than --max-drop.

    Several recipes are tried, which leave more or less of the network in FP32; the fastest that holds is written.
    Whether INT8 is faster at all depends on the CPU; the table says.
    """
    from tidesight.detection.detector import Detector
    from tidesight.detection.embedded import embedded_model
    from tidesight.training.dataset import read_dataset
    from tidesight.training.quantize import choose, spread

    source = model or embedded_model()
    target = out or Path(f"{source.stem}-int8.onnx")
    with TemporaryDirectory() as folder:
        dataset = read_dataset(data, Detector.open(source, engine=engine).class_names)
        samples = spread(dataset, calibrate)
        fp32, *quantised = _measure(dataset, _make_all(source, samples, Path(folder)), engine)
        chosen = choose(fp32, quantised, max_drop)
        _report([fp32, *quantised], chosen, max_drop, as_json)
        if chosen is None:
            best = max(trial.ap for trial in quantised)
            raise ModelError(
                f"refused, nothing written: AP falls from {fp32.ap:.4f} to {best:.4f} at best, "
                f"by more than {max_drop:g}"
            )
        _write(chosen, fp32, target, f"{len(samples)} pictures of {dataset.name}")
    if not as_json:
        print(f"wrote {target} ({target.stat().st_size / 1e6:.2f} MB)")


def _make_all(source: Path, samples: "Sequence[Sample]", folder: Path) -> dict[str, Path]:
    from rich.console import Console
    from rich.progress import track

    from tidesight.training.quantize import RECIPES, quantize

    files = {"FP32": source}
    for number, recipe in enumerate(track(RECIPES, "quantising", console=Console(stderr=True), transient=True)):
        files[recipe.name] = folder / f"{number}.onnx"
        quantize(source, samples, recipe, files[recipe.name])
    return files


def _measure(dataset: "Dataset", files: dict[str, Path], engine: str) -> "list[Trial]":
    from tidesight.commands.evaluate import evaluate_with_progress
    from tidesight.detection.detector import Detector
    from tidesight.training.quantize import Trial, inference_ms

    detectors = [Detector.open(path, engine=engine) for path in files.values()]
    aps = [evaluate_with_progress(detector, dataset).ap for detector in detectors]
    times = inference_ms(detectors)
    return [
        Trial(name, ap, time_ms, path.stat().st_size, path)
        for (name, path), ap, time_ms in zip(files.items(), aps, times, strict=True)
    ]


def _report(trials: "Sequence[Trial]", chosen: "Trial | None", max_drop: float, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    fp32 = trials[0]
    rows = [{"model": t.name, "AP": t.ap, "drop": fp32.ap - t.ap, "inference_ms": t.inference_ms} for t in trials]
    if as_json:
        print(json.dumps({"max_drop": max_drop, "chosen": chosen and chosen.name, "trials": rows}))
        return
    table = Table("model", title=f"INT8, at most {max_drop:g} AP below FP32")
    for header in ("AP", "drop", "inference ms", "MB", "verdict"):
        table.add_column(header, justify="right")
    for trial in trials:
        drop = fp32.ap - trial.ap
        held = "holds" if drop <= max_drop else "loses too much"
        verdict = "" if trial is fp32 else "chosen" if trial is chosen else held
        figures = (f"{trial.ap:.4f}", f"{drop:+.4f}", f"{trial.inference_ms:.1f}", f"{trial.size_bytes / 1e6:.2f}")
        table.add_row(trial.name, *figures, verdict)
    Console().print(table)
    if chosen is not None and chosen.inference_ms >= fp32.inference_ms:
        Console().print("INT8 is not faster than FP32 on this CPU; it is only smaller.")


def _write(chosen: "Trial", fp32: "Trial", target: Path, calibration: str) -> None:
    """Save it with all that FP32's file says of itself, and how it was made."""
    from tidesight.training.onnx_file import get_metadata, load_model, set_metadata, sha256

    model = load_model(chosen.path)
    for key, value in get_metadata(load_model(fp32.path)).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    made = {"recipe": chosen.name, "calibration": calibration, "ap": round(chosen.ap, 4), "fp32_ap": round(fp32.ap, 4)}
    set_metadata(model, {"quantization": made, "base_sha256": sha256(fp32.path)})
    target.write_bytes(model.SerializeToString())
