"""Run measurements: python -m benchmarks [--quick] [NAME ...]; writes results/ and the pages rendered from them.

Each round is on disk as soon as it is taken, in results/unfinished.json; the same command takes a run up again where
it was cut off. A measurement joins the results when its last round is in. With --quick everything is short, and what
was found is printed instead of written: it shows that the measurements run, not what the machine can do.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks import (
    accuracy,
    engines,
    fleet_front,
    fleet_page,
    fleet_start,
    fleet_whole,
    instance,
    load_generator,
    machine,
    overload_page,
    page,
    plots,
    soak,
    stacks,
    stacks_page,
    stored,
    streams_page,
    streams_speedup,
    tuned,
    yolov8n,
)
from benchmarks.overload import Shared
from benchmarks.reference_stacks import STACKS
from benchmarks.rounds import Measurement, Results, once
from tidesight.detection.engines import fastest_installed
from tidesight.errors import DataError
from tidesight.settings import assets_folder

FOLDER = Path(__file__).parent
FILES = ("instance", "load", "fleet", "streams")
_PICTURES = 128
_ONE_FILE = [name for name in STACKS if name != stacks.FIRST_STUDY]


def instance_measurements(pictures: Sequence[bytes], quick: bool) -> dict[str, Measurement]:
    """What results/instance.json holds: one instance, and parts of it."""
    engine = fastest_installed()
    few = 1 if quick else 5
    return {
        "engines": once(lambda: engines.compare(pictures, few, 30 if quick else 100)),
        "stages": once(lambda: instance.stages(pictures[:16] if quick else pictures, engine)),
        "reduced_decode": once(lambda: instance.reduced_decode(pictures)),
        "latency": once(lambda: instance.latency(pictures, engine, few, 20 if quick else 100)),
        "cold_start": once(lambda: instance.cold_start(pictures[0], engine, rounds=3 if quick else 15)),
        "accuracy": once(lambda: accuracy.accuracy(assets_folder(), 8 if quick else None)),
    }


def load_measurements(pictures: Sequence[bytes], quick: bool) -> dict[str, Measurement]:
    """What results/load.json holds: instances, and other stacks, under load."""
    engine = fastest_installed()
    few, seconds = (1, 4.0) if quick else (4, 10.0)
    loads = Shared(pictures, engine, few, seconds)
    halves = Shared(pictures, engine, 1 if quick else 3, seconds if quick else 20.0)
    points = Shared(pictures, engine, 1, 3.0 if quick else 5.0)
    curve = (0.5, 3) if quick else (0.5, 1, 1.5, 3)
    embedded = stacks.Field(None, _ONE_FILE)

    def larger(earlier: Results) -> Iterator[Results]:
        try:
            field = stacks.Field(yolov8n.fp32_file(assets_folder()), [stacks.FASTAPI, stacks.FIRST_STUDY])
        except DataError as error:
            yield {"skipped": error.detail}
        else:
            yield from stacks.compare(pictures, field, 1 if quick else 6, 16 if quick else 32, earlier)

    def tuned_accuracy() -> Results:
        models: dict[str, Path | None] = {"embedded": None}
        with suppress(DataError):
            models["yolov8n"] = yolov8n.fp32_file(assets_folder())
        return tuned.tuned_accuracy(assets_folder(), models, 8 if quick else None)

    return {
        # Short rounds and many: what else the machine does then touches neighbours alike.
        "stacks": partial(stacks.compare, pictures, embedded, 2 if quick else 15, 40 if quick else 120),
        "yolov8n": larger,
        "tuned_accuracy": once(tuned_accuracy),
        "overload": partial(loads.overload, (3, 10)),
        "overload_pinned": partial(loads.pinned, (3, 10)),
        "half": halves.half,
        "curve": partial(points.curve, _ONE_FILE, curve),
        "stored": partial(stored.stored, pictures, 1 if quick else 8, 30 if quick else 100),
        "load_generator": partial(load_generator.measure, 1 if quick else 6, 2.0 if quick else 8.0),
        "soak": once(lambda: soak.soak(pictures, engine, minutes=0.5 if quick else 10)),
    }


def fleet_measurements(pictures: Sequence[bytes], quick: bool) -> dict[str, Measurement]:
    """What results/fleet.json holds: what is before instances, and how they start."""
    return {
        "fleet_front": partial(fleet_front.fleet_front, pictures[:16], 2 if quick else 15, 50 if quick else 300),
        "fleet_throughput": partial(
            fleet_whole.fleet_throughput, pictures[:32], fastest_installed(), 2 if quick else 12, 60 if quick else 300
        ),
        "fleet_idle": once(lambda: fleet_whole.fleet_idle(fastest_installed(), 5 if quick else 20)),
        "fleet_rolling": once(lambda: fleet_whole.fleet_rolling(pictures[0], 1000 if quick else 10_000)),
        "fleet_start": partial(fleet_start.fleet_start, pictures[0], fastest_installed(), 1 if quick else 10),
    }


def streams_measurements(pictures: Sequence[bytes], quick: bool) -> dict[str, Measurement]:
    """What results/streams.json holds: videos over many small instances."""
    engine, few = fastest_installed(), pictures[:32]
    return {
        "streams_speedup": partial(
            streams_speedup.streams_speedup, few, engine, 1 if quick else 5, 20 if quick else 150
        ),
        "streams_killed": once(
            lambda: streams_speedup.streams_killed(few, engine, 1 if quick else 5, 100 if quick else 600)
        ),
    }


def main() -> None:
    """Measure what the arguments name, or all, and render the pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="measurements, or 'pages' to only render; all if none")
    parser.add_argument("--quick", action="store_true", help="short; print the pages and write nothing")
    arguments = parser.parse_args()
    if arguments.names == ["pages"]:
        _render(**{file: _read(file) for file in FILES})
        return
    pictures = instance.pictures_of(assets_folder() / "coco128/images/train2017", _PICTURES)
    if not pictures:
        sys.exit(f"the benchmarks need the COCO128 pictures under {assets_folder()}; set TIDESIGHT_ASSETS")
    every = {
        "instance": instance_measurements(pictures, arguments.quick),
        "load": load_measurements(pictures, arguments.quick),
        "fleet": fleet_measurements(pictures, arguments.quick),
        "streams": streams_measurements(pictures, arguments.quick),
    }
    known = [name for measurements in every.values() for name in measurements]
    unknown = set(arguments.names) - set(known)
    if unknown:
        sys.exit(f"no measurement {min(unknown)!r}; there are: {', '.join(known)}")
    found = {file: {} if arguments.quick else _read(file) for file in every}
    for file, measurements in every.items():
        for name in [name for name in measurements if name in (arguments.names or known)]:
            started = perf_counter()
            _measure(
                name, measurements[name], found[file], None if arguments.quick else FOLDER / f"results/{file}.json"
            )
            print(f"{name} took {(perf_counter() - started) / 60:.1f} minutes", flush=True)
    if arguments.quick:
        print(*_pages(**found).values(), sep="\n")
    else:
        _render(**found)


def _measure(name: str, measurement: Measurement, found: Results, results: Path | None) -> None:
    """Take a measurement and add it to what is found; each round is on disk as soon as it is taken."""
    print(f"{name} ...", flush=True)
    about = machine.describe()
    unfinished = _read("unfinished") if results else {}
    earlier = unfinished.get(name, {})
    figures: Results = {}
    for figures in measurement(earlier.get("figures", {}) if earlier.get("machine") == about else {}):
        if results and "rounds" in figures:
            unfinished[name] = {"machine": about, "figures": figures}
            _write("unfinished", unfinished)
    if lost := _missing(figures) - _missing(found.get(name, figures)):
        print(f"  {name}: the earlier results stay, as these are without: {', '.join(sorted(lost))}", flush=True)
    else:
        found |= {name: figures, "machine": about, "date": datetime.now(UTC).date().isoformat()}
        if results:
            _write(results.stem, found)
    if results and unfinished.pop(name, None):
        _write("unfinished", unfinished)


def _missing(figures: Results) -> set[str]:
    """What a measurement could not take for want of a package, a file or a CPU."""
    skipped = {figures["skipped"]} if "skipped" in figures else set()
    return skipped | set(figures.get("missing", ()))


def _read(name: str) -> Results:
    file = FOLDER / f"results/{name}.json"
    found: Results = json.loads(file.read_text()) if file.exists() else {}
    return found


def _write(name: str, found: Results) -> None:
    file = FOLDER / f"results/{name}.json"
    if not found:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1) + "\n")
    new.replace(file)  # whole, or not at all


def _pages(instance: Results, load: Results, fleet: Results, streams: Results) -> dict[str, str]:
    """The pages that something was measured for."""
    files: dict[str, str] = {}
    if load:
        if "load_generator" in load:
            files["load_generator.md"] = load_generator.render(load["load_generator"])
        files |= {"overload.md": overload_page.render(load), "stacks.md": stacks_page.render(load)}
    if instance or load:
        files["README.md"] = page.render(instance, load)
    if fleet:
        files["fleet.md"] = fleet_page.render(fleet)
    if streams:
        files["streams.md"] = streams_page.render(streams)
    return files


def _render(**found: Results) -> None:
    """Write the pages and plots of what there is."""
    files = _pages(**found) | (plots.render(found["load"]) if found["load"] else {})
    for name, text in files.items():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(text)
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
