"""`tidesight detect`: pictures from files, folders, globs, URLs or standard input."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tidesight.commands.sources import Source, find_sources
from tidesight.errors import ConfigError, TidesightError

if TYPE_CHECKING:
    from tidesight.detection.detections import Detections
    from tidesight.detection.detector import DetectOptions, Detector


def detect(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, globs, http(s) URLs, or - for standard input.")],
    model: Annotated[Path | None, typer.Option(help="ONNX file (default: the embedded model).")] = None,
    labels: Annotated[Path | None, typer.Option(help="File with one class name per line.")] = None,
    engine: Annotated[str, typer.Option(help="auto, onnxruntime or openvino.")] = "auto",
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Least score.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Overlap above which two boxes are one object.")] = 0.5,
    max_detections: Annotated[int, typer.Option(min=1, help="At most this many per picture, the best first.")] = 100,
    classes: Annotated[str | None, typer.Option(help="Class names or ids to keep, separated by commas.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for annotated JPEGs; no picture read is replaced.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per picture and line.")] = False,
) -> None:
    """Find objects in pictures; a table of what was found, or JSON lines.

    Exit code 1 when a picture could not be used; the others are still done.
    """
    from tidesight.detection.detector import DetectOptions, Detector, class_ids
    from tidesight.resources import usable_resources

    pictures = list(find_sources(sources))
    targets = [None] * len(pictures) if save is None else _targets(pictures, save)
    threads = max(1, min(usable_resources().threads, len(pictures)))
    detector = Detector.open(model, engine=engine, labels=labels, threads=threads)
    kept = None if classes is None else class_ids(_split(classes), detector.class_names)
    options = DetectOptions(confidence, iou, max_detections, kept)
    started = perf_counter()
    done = _in_parallel(list(zip(pictures, targets, strict=True)), detector, options, threads)
    failures = _print_json(done) if json else _print_table(done, len(pictures), started)
    raise typer.Exit(1 if failures else 0)


Job = tuple[Source, Path | None]
"""A picture, and the file for its annotated copy."""
Outcome = tuple[Source, "Detections | TidesightError"]


def _targets(pictures: list[Source], save: Path) -> list[Path]:
    """A file of its own for each picture's annotated copy; names that occur twice are numbered.

    Raises:
        ConfigError: no such folder can be made, or one of the files is a picture to be read.
    """
    try:
        save.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {save}: {error.strerror}", field="save") from None
    inputs = {_identity(Path(source.name)): source.name for source in pictures} | {None: None}
    taken: set[str] = set()
    targets = []
    for source in pictures:
        place, number = str(source.place), 2
        while place.casefold() in taken:  # some file systems do not tell cases apart
            place, number = f"{source.place}-{number}", number + 1
        taken.add(place.casefold())
        target = save / f"{place}.jpg"
        if replaced := inputs.get(_identity(target)):
            raise ConfigError(f"--save would replace {replaced}; choose another folder", field="save")
        targets.append(target)
    return targets


def _identity(path: Path) -> tuple[int, int] | None:
    """Equal for two paths of one file, whatever links lead to it; None for what is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _in_parallel(jobs: list[Job], detector: "Detector", options: "DetectOptions", threads: int) -> Iterator[Outcome]:
    """Each picture's outcome, in order; one detector per thread."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    spare = detector.for_threads(threads)
    mine = threading.local()

    def one(job: Job) -> Outcome:
        source, target = job
        if not hasattr(mine, "detector"):
            mine.detector = spare.pop()
        try:
            return source, _detect_one(source, mine.detector, options, target)
        except TidesightError as error:
            return source, error

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(one, jobs)


def _detect_one(source: Source, detector: "Detector", options: "DetectOptions", target: Path | None) -> "Detections":
    from tidesight.detection.annotate import annotate, encode_jpeg
    from tidesight.detection.image import decode_image

    data = source.read()
    if target is None:
        return detector.detect(data, options)
    pixels = decode_image(data).pixels
    found = detector.detect(pixels, options)
    annotated = encode_jpeg(annotate(pixels, found))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(annotated)
    except OSError as error:
        raise TidesightError(f"cannot write {target}: {error.strerror}") from None
    return found


def _split(classes: str) -> list[str]:
    return [name.strip() for name in classes.split(",") if name.strip()]


def _print_json(outcomes: Iterable[Outcome]) -> int:
    failures = 0
    for source, outcome in outcomes:
        line: dict[str, Any] = {"source": source.name}
        if isinstance(outcome, TidesightError):
            failures += 1
            line["error"] = outcome.detail
        else:
            line["image"] = {"width": outcome.image_width_px, "height": outcome.image_height_px}
            line["detections"] = [
                {"box": [round(side, 2) for side in box], "score": round(score, 4), "class_id": number, "label": label}
                for box, score, number, label in outcome
            ]
        print(msgspec.json.encode(line).decode(), flush=True)
    return failures


def _print_table(outcomes: Iterable[Outcome], total: int, started: float) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track
    from rich.table import Table

    table = Table("picture", "size", "found")
    counts: Counter[str] = Counter()
    failures = 0
    for source, outcome in track(outcomes, "detecting", total, console=Console(stderr=True), transient=True):
        if isinstance(outcome, TidesightError):
            failures += 1
            table.add_row(escape(source.name), "", f"[red]{escape(outcome.detail)}[/red]")
            continue
        here = Counter(found.label for found in outcome)
        counts += here
        size = f"{outcome.image_width_px}x{outcome.image_height_px}"
        table.add_row(escape(source.name), size, escape(_words(here)) or "[dim]nothing[/dim]")
    console = Console()
    console.print(table)
    seconds = perf_counter() - started
    console.print(
        f"{total - failures} pictures in {seconds:.2f} s ({(total - failures) / seconds:.1f}/s): {_words(counts)}"
        + (f"; [red]{failures} failed[/red]" if failures else "")
    )
    return failures


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.most_common())
