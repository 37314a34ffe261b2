# ruff: noqa: E501 - prose
"""Renders benchmarks/stacks.md: other stacks, a larger network, and storing; no figure is typed by hand."""

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.page import machine_table
from benchmarks.reference_stacks import STACKS, description
from benchmarks.rounds import Results, account, middle, ratio, shown
from benchmarks.stacks import FIRST_STUDY, LIMIT, OURS, TUNED, TUNED_LIMIT
from benchmarks.stored import NOTHING


def render(found: Results) -> str:
    """The whole page."""
    sections = [
        f"""# Against other stacks

Rendered from `results/load.json` ({found["date"]}); how to take it again is in the [overview](README.md). Ratios of figures taken
in the same round are the point; absolute figures are this machine's.

{machine_table(found)}
"""
    ]
    for name, section in (("stacks", _stacks), ("yolov8n", _yolov8n), ("stored", _stored)):
        if found.get(name, {}).get("rounds"):
            sections.append(section(found[name]))
    return "\n".join(sections)


def _stacks(data: Results) -> str:
    cut = data.get("margin_px") is not None
    shape = " Tidesight cuts the input to the picture, the others pad every one to a square." if cut else ""
    return f"""## Throughput at saturation

The job: a COCO128 photograph (JPEG) as base64 in JSON, boxes back as JSON; the embedded YOLOX-Nano at 416 px. Each stack in
`reference_stacks/` is written as its own documentation has it, around the same file, ONNX Runtime with one thread a run, and the same
pre- and post-processing (a test compares what they find with what Tidesight finds). All are up throughout and idle while
another is asked.{shape}

{_set_ups(data["rounds"][0]["of"])}

{_method(data)}

{_table(data["rounds"])}
"""


def _yolov8n(data: Results) -> str:
    without = "" if FIRST_STUDY not in data["missing"] else f" {FIRST_STUDY} has no part here."
    return f"""## YOLOv8n at 640

The same, with an FP32 file that `yolov8n.py` makes from a quantised one of the assets. {FIRST_STUDY} is the stack of the first
reference study, PyTorch and Ultralytics, with that file's weights; Ultralytics pads a 640x480 picture to no square, so its
network has a quarter less to compute.{without}

{_method(data)}

{_table(data["rounds"])}
"""


def _set_ups(names: Iterable[str]) -> str:
    return "\n".join(f"- {description(name)}" for name in STACKS if name in names)


def _method(data: Results) -> str:
    missing = "".join(f" {name} is left out: {package} is not installed." for name, package in data["missing"].items())
    tuned = f"\n\n{TUNED}, by `tidesight tune`: {data['tuned']}." if data["tuned"] else ""
    tuned += "".join(f"\n\n{name} says of itself: `{info}`." for name, info in data["runs"].items())
    return f"""{data["connections"]} connections that each ask again at once, {data["requests_per_round"]} requests a round; {account(data["rounds"])}. The order
turns from round to round. The load generator runs on the same CPUs, and its cost counts against each alike. CPU is that of
all processes of a stack.{missing}{tuned}"""


def _table(rounds: Sequence[Results]) -> str:
    rounds = shown(rounds)
    names = [*rounds[0]["of"]]
    first = [name for name in (LIMIT, TUNED_LIMIT, OURS, TUNED) if name in names]
    others = [name for name in names if name not in first]
    others.sort(key=lambda name: -median(one["of"][name]["per_s"] for one in rounds))
    tuned = TUNED in names
    head = "| | pictures/s | CPU ms a picture | generator's | Tidesight / this (spread) |" + (
        f" {TUNED} / this (spread) |" if tuned else ""
    )
    rows = [head, "|---|---|---|---|---|" + ("---|" if tuned else "")]
    for name in (*first, *others):
        of = [one["of"][name] for one in rounds]
        failures = sum(one["failures"] for one in of)
        cells = [
            name + (f" ({failures} failures)" if failures else ""),
            f"{median(one['per_s'] for one in of):.1f}",
            f"{median(one['cpu_ms'] for one in of):.1f}",
            f"{median(one.get('generator_cpu_ms', 0.0) for one in of):.1f}",
            middle(ratio(rounds, OURS, name)),
            *([middle(ratio(rounds, TUNED, name))] if tuned else []),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _stored(data: Results) -> str:
    rounds = shown(data["rounds"])
    rows = []
    for name in rounds[0]["of"]:
        of = [one["of"][name] for one in rounds]
        cells = (
            name,
            f"{median(one['per_s'] for one in of):.1f}",
            middle([100 * (1 - value) for value in ratio(rounds, name, NOTHING)], 1),
            f"{median(one['cpu_ms'] for one in of):.1f}",
            middle([100 * (value - 1) for value in ratio(rounds, name, NOTHING, "cpu_ms")], 1),
            f"{max(one['behind'] for one in of)}",
            f"{max(one['drain_s'] for one in of):.2f}",
            f"{sum(one['failures'] for one in of)}",
        )
        rows.append("| " + " | ".join(cells) + " |")
    missing = "".join(f"\n{name} is left out: {package} is not installed." for name, package in data["missing"].items())
    return f"""## What storing costs

Every request is the same and gets the same answer, the annotated picture; only `store` differs, so the drawing is in the baseline
too. The instance has one CPU and one worker; generator and emulators (moto for S3, fake-gcs-server for GCS, both in memory) have the other. An instance for
each line, all up throughout; {data["requests_per_round"]} requests a round; {account(data["rounds"])}. CPU is that of the instance until all is uploaded,
so what `async` leaves for later is in it: at full load and for ever, that is its cost. The spool is on a disk of this machine.{missing}

| | answers/s | less than without, % | CPU ms a request | more than without, % | most left to upload | longest, s | failures |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}
"""
