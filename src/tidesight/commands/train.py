"""`tidesight train`: fine-tune YOLOX-Nano on labelled pictures."""

import shlex
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidesight.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from rich.progress import Progress

    from tidesight.training.dataset import Dataset
    from tidesight.training.finetune import Recipe
    from tidesight.training.run import Point, Run


def train(
    data: Annotated[Path, typer.Option(help="Data set: a folder in YOLO or COCO layout, or a YOLO data.yaml.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
    base: Annotated[
        Path | None, typer.Option(help="YOLOX-Nano ONNX file to start from. (default: the embedded model)")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 10,
    val: Annotated[
        Path | None, typer.Option(help="Another data set to measure AP on after every epoch; not trained on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch", min=1, help="Pictures per step.")] = 16,
    learning_rate: Annotated[float, typer.Option("--lr", help="Of AdamW at its peak.")] = 1e-4,
    mosaic: Annotated[float, typer.Option(min=0, max=1, help="Share of pictures put together from four.")] = 0.0,
    trained: Annotated[str, typer.Option(help="Layers that learn: head, neck (and head) or all.")] = "neck",
    blend: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of the trained weights in the result. (default: 0.3, or 1 for other classes)"
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of the result. (default: what the base says)")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="Picture of losses and AP. (default: --out with .png)")] = None,
) -> None:
    """Fine-tune YOLOX-Nano and write one self-describing ONNX file, and a picture of losses and AP.

    AP is measured on the data (that is: on pictures trained on) and on --val, before and after every epoch.
    More epochs on few pictures fit them better and forget more of the rest; --val shows it. So the result lies
    between the base and what was trained (--blend), unless the classes are not those of the base.
    The same seed gives the same file on the same machine with the same packages.
    """
    from tidesight.detection.embedded import embedded_model
    from tidesight.training.curves import draw_curves
    from tidesight.training.finetune import Recipe

    recipe = Recipe(epochs, batch_size, learning_rate, mosaic, trained, 1.0 if blend is None else blend, seed)
    pictures = curves or out.with_suffix(".png")
    _check(recipe, out, pictures)
    run = _prepare(base or embedded_model(), data, val, recipe)
    if blend is None and run.data.class_names == run.base_names:
        run = replace(run, recipe=replace(recipe, blend=Recipe.blend))
    points = _train_with_progress(run)
    _describe(points, run, licence, _command(data, run.base, val, out, run.recipe, licence))
    out.write_bytes(points[-1].model.SerializeToString())
    draw_curves(points, pictures, f"{run.base.name} fine-tuned on {run.data.name}, seed {seed}")
    _print_table(points)
    print(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB) and {pictures}")


def _check(recipe: "Recipe", out: Path, curves: Path) -> None:
    """Before minutes of training, not after."""
    for package in ("torch", "libreyolo", "onnx", "matplotlib"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train")
    if recipe.trained not in ("head", "neck", "all"):
        raise ConfigError(f"--trained {recipe.trained}: expected head, neck or all", field="trained")
    if recipe.learning_rate <= 0:
        raise ConfigError("--lr must be above 0", field="lr")
    if curves.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--curves {curves.name}: expected a name in .png, .svg or .pdf", field="curves")
    for path in (out, curves):
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"{path}: its folder does not exist", field="out")


def _prepare(base: Path, data: Path, val: Path | None, recipe: "Recipe") -> "Run":
    from tidesight.detection.detector import Detector
    from tidesight.training.dataset import read_dataset
    from tidesight.training.run import Run

    names = Detector.open(base, engine="onnxruntime").class_names
    train_on = read_dataset(data, names)
    held_out = None if val is None else read_dataset(val, train_on.class_names, split="val")
    return Run(base, names, train_on, held_out, recipe)


def _train_with_progress(run: "Run") -> "list[Point]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    steps = -(-len(run.data.samples) // run.recipe.batch_size) * run.recipe.epochs
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    points: list[Point] = []
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("measuring the start", total=steps)
        for point in run.points(on_step=lambda: bar.advance(task)):
            points.append(point)
            _tell(bar, point, run.recipe.epochs)
            bar.update(task, description=f"epoch {min(point.epoch + 1, run.recipe.epochs)} of {run.recipe.epochs}")
    return points


def _tell(bar: "Progress", point: "Point", epochs: int) -> None:
    loss = f"loss {point.losses['total']:.3f}, " if point.losses else ""
    aps = ", ".join(f"AP {result.ap:.3f} on {name}" for name, result in point.evaluations.items())
    bar.console.print(f"epoch {point.epoch} of {epochs}: {loss}{aps}")


def _describe(points: "list[Point]", run: "Run", licence: str | None, command: str) -> None:
    from tidesight import __version__
    from tidesight.training.onnx_file import get_metadata, set_metadata, sha256

    model = points[-1].model
    before, after = points[0].evaluations, points[-1].evaluations
    values = {
        "license": licence or get_metadata(model).get("tidesight.license", "not stated"),
        "data": _summary(run.data),
        "command": command,
        "seed": str(run.recipe.seed),
        "recipe": asdict(run.recipe),
        "base_sha256": sha256(run.base),
        "version": __version__,
        "ap": {
            name: {"images": after[name].images, "before": round(before[name].ap, 4), "after": round(after[name].ap, 4)}
            for name in after
        },
    }
    set_metadata(model, values)


def _summary(dataset: "Dataset") -> str:
    return f"{dataset.name}: {len(dataset.samples)} pictures, {dataset.box_count} boxes"


def _command(data: Path, base: Path, val: Path | None, out: Path, recipe: "Recipe", licence: str | None) -> str:
    """The command that makes this file again, with names instead of paths, which mean nothing elsewhere."""
    words = ["tidesight", "train", "--data", data.resolve().name, "--base", base.name]
    words += [] if val is None else ["--val", val.resolve().name]
    words += ["--epochs", str(recipe.epochs), "--batch", str(recipe.batch_size), "--lr", str(recipe.learning_rate)]
    words += ["--mosaic", str(recipe.mosaic), "--trained", recipe.trained, "--blend", str(recipe.blend)]
    words += ["--seed", str(recipe.seed)]
    words += [] if licence is None else ["--license", licence]
    return shlex.join([*words, "--out", out.name])


def _print_table(points: "list[Point]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="AP before and after")
    for header in ("data", "pictures", "AP before", "AP after", "AP50 before", "AP50 after"):
        table.add_column(header, justify="left" if header == "data" else "right")
    for name, after in points[-1].evaluations.items():
        before = points[0].evaluations[name]
        figures = (before.ap, after.ap, before.ap50, after.ap50)
        table.add_row(name, str(after.images), *(f"{figure:.4f}" for figure in figures))
    Console().print(table)
