"""`tidesight tune`: measure how a model runs best on this machine, and let `serve` use it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tidesight.errors import ConfigError, DataError, ModelError
from tidesight.settings import assets_folder, tuned_folder


def tune(
    model: Annotated[Path | None, typer.Argument(help="ONNX file, FP32. (default: the embedded model)")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled pictures (as for evaluate), or a folder of pictures. (default: those at hand)"),
    ] = None,
    p99_ms: Annotated[float, typer.Option(min=1, help="Bound on the 99th percentile, at 70 % load.")] = 500,
    max_ap_drop: Annotated[float, typer.Option(min=0, help="Bound on the AP that may be lost.")] = 0.005,
    engines: Annotated[str, typer.Option(help="Separated by commas. (default: all that are installed)")] = "",
    precisions: Annotated[str, typer.Option(help="Of fp32,bf16,int8. (default: all that the CPU has)")] = "",
    sizes: Annotated[str, typer.Option(help="Input sides in pixels. (default: around the model's own)")] = "",
    workers: Annotated[str, typer.Option(help="Numbers of workers. (default: 1 to all CPUs and one more)")] = "",
    seconds: Annotated[float, typer.Option(min=0.1, help="At saturation, for each candidate and round.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="Of the final.")] = 3,
    pictures: Annotated[int, typer.Option(min=1, help="Use at most this many of the data.")] = 128,
    plot: Annotated[Path | None, typer.Option(help="Write the plot: FILE.svg or FILE.html.")] = None,
    no_save: Annotated[bool, typer.Option("--no-save", help="Only report.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Show what is saved for this model here, and stop.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Remove what is saved for this model, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Search engine x precision x workers x input size and shape for the most pictures a second within two bounds.

    The choice is saved for this model, CPU and quota, and `tidesight serve` uses it while its engine is "auto".
    """
    from tidesight.detection.embedded import embedded_model

    source, folder = model or embedded_model(), tuned_folder()
    if not source.is_file():
        raise ModelError(f"no model file {source}")
    if plot is not None:
        _check_plot(plot)
    if show or forget:
        _manage(source, folder, forget)
        return

    from tidesight.commands.tune_report import Report
    from tidesight.tuning.choosing import Bounds
    from tidesight.tuning.search import Effort
    from tidesight.tuning.session import Session, Wishes

    wishes = Wishes(_names(engines), _names(precisions), _numbers("sizes", sizes), _numbers("workers", workers))
    bounds = Bounds(p99_ms, max_ap_drop)
    with TemporaryDirectory() as scratch:
        with _progress() as say:
            session = Session(source, data or _at_hand(Path(scratch)), Path(scratch), pictures, say)
            space = session.space(wishes)
            outcome = session.search(space, seconds).run(bounds, Effort(rounds))
        report = Report(outcome, space, session.stick, bounds, source.stem)
        report.print(as_json)  # first: what took minutes to measure is not lost when a file cannot be written
        if outcome.chosen is not None and not no_save:
            today = datetime.now(UTC).date().isoformat()
            with _writing(folder, "set TIDESIGHT_TUNED to another folder"):
                session.save(outcome.chosen, outcome, folder, report.conditions(), today)
    if plot is not None:
        with _writing(plot, "give another with --plot"):
            plot.write_text(report.plot(page=plot.suffix == ".html"), encoding="utf-8")
    if outcome.chosen is not None and not no_save and not as_json:
        print(f"Saved in {folder}; tidesight serve uses it while its engine is auto.")


def _check_plot(plot: Path) -> None:
    """Before minutes of measuring: a plot can be written there."""
    if plot.suffix not in (".svg", ".html"):
        raise ConfigError(f"--plot: expected a file ending in .svg or .html, got {plot.name}", field="plot")
    if not plot.parent.is_dir():
        raise ConfigError(f"--plot: no folder {plot.parent}", field="plot")
    if plot.is_dir() or not os.access(plot if plot.exists() else plot.parent, os.W_OK):
        raise ConfigError(f"--plot: cannot write {plot}", field="plot")


@contextmanager
def _writing(path: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; {advice}") from None


def _manage(source: Path, folder: Path, forget: bool) -> None:
    from tidesight.training.onnx_file import sha256
    from tidesight.tuning import saved

    if forget:
        with _writing(folder / saved.FILE, "it keeps its choices"):
            removed = saved.forget(folder, sha256(source))
        print(f"removed {removed} choices for {source.name}")
        return
    choice = saved.find(folder, source)
    print(f"nothing is saved for {source.name} on this machine" if choice is None else choice.describe())
    if choice is not None:
        for name, value in choice.measured.items():
            print(f"  {name}: {value}")


def _at_hand(scratch: Path) -> Path:
    """A folder with the photographs that installed packages and the optional assets bring."""
    from tidesight.commands.photographs import photographs
    from tidesight.detection.annotate import encode_jpeg

    found = photographs(assets_folder())
    if not found:
        raise DataError("no photographs are at hand; give some with --data FOLDER, with labels if there are any")
    folder = scratch / "photographs at hand"
    folder.mkdir()
    for number, one in enumerate(found):
        (folder / f"{number:03}.jpg").write_bytes(encode_jpeg(one.pixels))
    return folder


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(option: str, text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) if part.isdecimal() else 0 for part in _names(text))
    least, step = (32, 32) if option == "sizes" else (1, 1)
    if any(number < least or number % step or number > 4096 for number in numbers):
        wanted = "multiples of 32" if option == "sizes" else "numbers from 1"
        raise ConfigError(f"--{option}: expected {wanted} separated by commas, got {text!r}", field=option)
    return numbers


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is being measured."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda text: bar.update(task, description=text)
