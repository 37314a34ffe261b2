"""`tidesight video`: find objects in videos with a fleet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tidesight.errors import ConfigError, TidesightError

if TYPE_CHECKING:
    from tidesight.streams.video import Stage, VideoJob

_INTERRUPTED = 130


def video(
    sources: Annotated[list[str], typer.Argument(help="Video files, or URLs that FFmpeg reads.")],
    url: Annotated[list[str], typer.Option(help="Of a fleet or an instance; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder; each video gets one of its own in it.")],
    every: Annotated[int, typer.Option(min=1, help="Look at every n-th frame.")] = 1,
    fps: Annotated[float | None, typer.Option(help="Look at so many frames a second of the video.")] = None,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Least score.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Overlap above which two boxes are one object.")] = 0.5,
    max_detections: Annotated[int, typer.Option(min=1, max=1000, help="At most this many per frame.")] = 100,
    classes: Annotated[str | None, typer.Option(help="Class names or ids to keep, separated by commas.")] = None,
    send_px: Annotated[
        int | None, typer.Option(min=0, help="Longer side of the pictures sent; 0: in full. (default: the network's)")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs sent.")] = 95,
    most_in_flight: Annotated[int, typer.Option(min=1, help="Requests under way at most.")] = 256,
    latency_goal_s: Annotated[
        float,
        typer.Option(
            "--latency-goal-s", "--latency-goal", min=0.01, help="More is sent at once while answers take less."
        ),
    ] = 1.0,
    window: Annotated[int, typer.Option(min=1, help="Frames read ahead at most; bounds the memory.")] = 512,
    deadline_s: Annotated[float, typer.Option(min=0.1, help="For an answer.")] = 10.0,
    patience_s: Annotated[float, typer.Option(min=0, help="Give up when nothing is answered for so long.")] = 60.0,
    api_key: Annotated[
        str, typer.Option(envvar="TIDESIGHT_API_KEY", help="Of the fleet; better in the environment.", show_default="")
    ] = "",
    no_video: Annotated[bool, typer.Option("--no-video", help="Make no annotated video.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where another run is.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per video and line.")] = False,
) -> None:
    """Find objects in every frame of a video with a fleet: JSON lines, counts, a plot, and the video with boxes.

    The same command goes on where it was cut off. Exit code 1 when a frame, or a video, could not be done.
    """
    import cv2

    from tidesight.streams.limit import LimitSettings
    from tidesight.streams.options import DetectVideoOptions, FleetOptions
    from tidesight.streams.sampling import Sampling
    from tidesight.streams.video import VideoJob

    query = {"confidence": f"{confidence:g}", "iou": f"{iou:g}", "max_detections": str(max_detections)}
    if classes is not None:
        query["classes"] = classes
    cv2.setNumThreads(1)  # its threads spin between pictures as small as these, on CPUs that instances may share
    limit = LimitSettings(latency_goal_s, most=most_in_flight, start=min(4, most_in_flight))
    fleet = FleetOptions(tuple(url), api_key, query, deadline_s, patience_s, limit=limit)
    options = DetectVideoOptions(Sampling(every, fps), send_px, quality, window)
    jobs = [
        VideoJob(source, folder, options, fleet, not no_video)
        for source, folder in zip(sources, _folders(sources, out), strict=True)
    ]
    failed = [job for job in jobs if not _one(job, overwrite, json)]
    raise typer.Exit(1 if failed else 0)


def _folders(sources: list[str], out: Path) -> list[Path]:
    """A folder for each; names that occur twice are numbered."""
    taken: set[str] = set()
    folders = []
    for source in sources:
        stem = Path(source.split("?")[0]).stem or "video"
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        folders.append(out / name)
    return folders


def _one(job: "VideoJob", overwrite: bool, as_json: bool) -> bool:
    """Do one; whether all went well."""
    from tidesight.streams import record
    from tidesight.streams.video import run_video

    if overwrite:
        record.remove(job.folder)
        for old in job.folder.glob("annotated.*"):
            old.unlink()
    started = perf_counter()
    try:
        with _progress(job.source) as show:
            summary = run_video(job, show)
    except ConfigError:
        raise
    except TidesightError as error:
        _print(job, {"error": error.detail}, as_json)
        return False
    except KeyboardInterrupt:
        _print(job, {"error": "interrupted; the same command goes on from here"}, as_json)
        raise typer.Exit(_INTERRUPTED) from None
    _print(job, summary | {"seconds": round(perf_counter() - started, 2)}, as_json)
    return not summary["failed"] and summary["cut_short"] is None


def _print(job: "VideoJob", summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        whole = {"source": job.source, "folder": str(job.folder), **summary}
        print(msgspec.json.encode(whole).decode(), flush=True)
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True)
    name = escape(job.source)
    if "error" in summary:
        console.print(f"{name}: [red]{escape(summary['error'])}[/red]")
        return
    objects = ", ".join(f"{count} {label}" for label, count in summary["objects"].items()) or "nothing"
    rate = summary["frames"] / summary["seconds"]
    console.print(f"{name}: {summary['frames']} frames in {summary['seconds']} s ({rate:.1f}/s): {escape(objects)}")
    for word in ("failed", "damaged"):
        if summary[word]:
            console.print(f"  [red]{summary[word]} frames {word}[/red]; see their lines")
    if summary["cut_short"]:
        console.print(f"  [red]{escape(summary['cut_short'])}[/red]")
    console.print(f"  {escape(str(job.folder))}: detections.jsonl, counts.csv, counts.svg", end="")
    console.print(f", {summary['annotated']}" if summary["annotated"] else "")


@contextmanager
def _progress(source: str) -> Iterator[Callable[["Stage"], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}")
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(Path(source).name, total=None, words="starting")
        started = {"detecting": perf_counter(), "drawing": 0.0}

        def show(stage: "Stage") -> None:
            begun = started[stage.name] = started[stage.name] or perf_counter()
            rate = max(0, stage.done - stage.resumed) / max(1e-3, perf_counter() - begun)
            at = stage.progress
            words = f"{stage.name} {stage.done}"
            words += f" of {stage.total}" if stage.total else ""
            words += f", {rate:.1f} frames/s"
            if stage.name == "detecting":
                words += f", {at.in_flight} of {at.limit} in flight, {len(at.instances)} instances"
                words += f", {at.refused} refused" if at.refused else ""
                words += f", {at.failed} failed" if at.failed else ""
            bar.update(task, completed=stage.done, total=stage.total or None, words=words)

        yield show
