"""Run measurements: python -m benchmarks [--quick] [NAME ...]; writes results/ and the pages rendered from them.

With --quick everything is short, and what was found is printed instead of written: it shows that the measurements
run, not what the machine can do.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import accuracy, engines, instance, machine, overload, overload_page, page, soak, stacks
from tidesight.detection.engines import fastest_installed
from tidesight.settings import assets_folder

FOLDER = Path(__file__).parent
_PICTURES = 128
Results = dict[str, Any]
Measurement = Callable[[], Results]


@dataclass(frozen=True)
class Page:
    """Measurements that land in one results file and are rendered to one page."""

    results: str
    file: str
    render: Callable[[Results], str]
    measurements: dict[str, Measurement]


def pages(pictures: Sequence[bytes], quick: bool) -> tuple[Page, ...]:
    """Every measurement, by page."""
    engine = fastest_installed()
    few, seconds = (1, 4.0) if quick else (5, 20.0)
    one = {
        "engines": lambda: engines.compare(pictures, few, 30 if quick else 150),
        "stages": lambda: instance.stages(pictures[:16] if quick else pictures, engine),
        "reduced_decode": lambda: instance.reduced_decode(pictures),
        "throughput": lambda: instance.throughput(pictures, engine, 1 if quick else 7, 40 if quick else 400),
        "latency": lambda: instance.latency(pictures, engine, few, 20 if quick else 100),
        "cold_start": lambda: instance.cold_start(pictures[0], engine, rounds=3 if quick else 15),
        "accuracy": lambda: accuracy.accuracy(assets_folder(), 8 if quick else None),
    }
    many = {
        # Short rounds and many: what else the machine does then touches neighbours alike.
        "stacks": lambda: stacks.compare(pictures, 2 if quick else 21, 60 if quick else 200),
        "overload": lambda: overload.overload(pictures, engine, (3, 10), few, seconds),
        "overload_pinned": lambda: overload.pinned(pictures, engine, (3, 10), few, seconds),
        "half": lambda: overload.half(pictures, engine, few, seconds),
        "references": lambda: overload.references(pictures, 3, seconds),
        "soak": lambda: soak.soak(pictures, engine, minutes=0.5 if quick else 10),
    }
    return (
        Page("instance.json", "README.md", page.render, one),
        Page("overload.json", "overload.md", overload_page.render, many),
    )


def main() -> None:
    """Measure what the arguments name, or all, and render the pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="measurements; all when none is named")
    parser.add_argument("--quick", action="store_true", help="short; print the pages and write nothing")
    arguments = parser.parse_args()
    pictures = instance.pictures_of(assets_folder() / "coco128/images/train2017", _PICTURES)
    if not pictures:
        sys.exit(f"the benchmarks need the COCO128 pictures under {assets_folder()}; set TIDESIGHT_ASSETS")
    every = pages(pictures, arguments.quick)
    known = [name for one in every for name in one.measurements]
    unknown = set(arguments.names) - set(known)
    if unknown:
        sys.exit(f"no measurement {min(unknown)!r}; there are: {', '.join(known)}")
    for one in every:
        wanted = [name for name in one.measurements if name in (arguments.names or known)]
        if wanted:
            _measure(one, wanted, arguments.quick)
    if not arguments.quick:
        for one in reversed(every):  # the first page links to the second where there is one
            _write(one)


def _measure(one: Page, wanted: Sequence[str], quick: bool) -> None:
    """Take the measurements; each is on disk as soon as it is taken."""
    results = FOLDER / "results" / one.results
    found: Results = json.loads(results.read_text()) if results.exists() and not quick else {}
    for name in wanted:
        print(f"{name} ...", flush=True)
        figures = one.measurements[name]()
        if lost := _missing(figures) - _missing(found.get(name, figures)):
            print(f"  {name}: the earlier results stay, as these are without: {', '.join(sorted(lost))}", flush=True)
            continue
        found |= {name: figures, "machine": machine.describe(), "date": datetime.now(UTC).date().isoformat()}
        if not quick:
            results.parent.mkdir(exist_ok=True)
            results.write_text(json.dumps(found, indent=1) + "\n")
    if quick:
        print(one.render(found))


def _missing(figures: Results) -> set[str]:
    """What a measurement could not take for want of a package, a file or a CPU."""
    skipped = {figures["skipped"]} if "skipped" in figures else set()
    return skipped | set(figures.get("missing", ()))


def _write(one: Page) -> None:
    results = FOLDER / "results" / one.results
    if results.exists():
        (FOLDER / one.file).write_text(one.render(json.loads(results.read_text())))
        print(f"wrote {one.file} from {one.results}")


if __name__ == "__main__":
    main()
